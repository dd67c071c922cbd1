"""Oracles: the network on each trace alone; dense weights added up here; full forward KL."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from datagen.backends.transformers_models import Example, encode, tokenizer_hash
from datagen.contracts.errors import DataError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from datagen.contracts.stage import main
from datagen.stages.teacher_signals import STAGE
from tests.oracles import forward_kl
from trainers.batches import collate, completion_logits
from trainers.signals import SparseLogProbs
from trainers.teachers.cached import CachedTeacher

ENDS = frozenset({1})
OPTIONS = {"topk": "k=20", "sampled": "n_draws=6", "hybrid": "k=4 n_draws=5"}


def make(traces: Path, tiny: Path, out: Path, method: str, options: str) -> Path:
    settings = [f"method={method}", f"model={tiny}", *options.split()]
    assert main(STAGE, ["--traces", str(traces), "--out", str(out), "--set", *settings]) == 0
    return out


def examples_of(traces: Path, tokenizer: Any) -> dict[str, Example]:
    rows = Rows(traces, Trace, "test", InputParams())
    return {row.id: encode(row, tokenizer, ENDS) for row in rows if isinstance(row, Trace)}


def log_probs_of(tiny: Path, examples: list[Example]) -> torch.Tensor:
    """(N, V) of every learned token, from the trainers' own batch."""
    network: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    with torch.no_grad():
        return completion_logits(network, collate(examples)).double().log_softmax(-1)


def densify(signal: SparseLogProbs, vocabulary: int) -> torch.Tensor:
    return torch.zeros(len(signal.ids), vocabulary).double().scatter_add(1, signal.ids, signal.log_weights.exp())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("method", OPTIONS)
def test_a_signal_stands_at_the_tokens_that_a_batch_learns(tmp_path: Path, traces: Path, tiny: Path, method: str):
    """Row for row of `Batch.labels`, in another order than the dataset's: mass and exact entries are the network's."""
    teacher = CachedTeacher(
        make(traces, tiny, tmp_path / "out", method, OPTIONS[method]), AutoTokenizer.from_pretrained(tiny)
    )
    examples = examples_of(traces, AutoTokenizer.from_pretrained(tiny))
    ids = sorted(examples, reverse=True)[:7]
    batch = [examples[id] for id in ids]
    signal = teacher.signal(ids, batch)
    wanted = log_probs_of(tiny, batch)
    assert len(signal.ids) == len(collate(batch).labels) == len(wanted)
    assert densify(signal, wanted.shape[1]).sum(1).add(signal.log_tail.exp()).sub(1).abs().max() < 5e-3
    k = {"topk": 20, "sampled": 0, "hybrid": 4}[method]
    likeliest = wanted.topk(k, dim=-1).values
    torch.testing.assert_close(signal.log_weights[:, :k], likeliest, rtol=0, atol=6e-4)  # the code's and float32's
    torch.testing.assert_close(wanted.gather(1, signal.ids[:, :k]), likeliest, rtol=0, atol=6e-4)
    if method == "sampled":
        counts = (signal.log_weights.exp() * 6).round()
        assert (counts.sum(1) == 6).all()
        torch.testing.assert_close(counts / 6, signal.log_weights.exp(), rtol=0, atol=1e-12)


def test_forward_kl_from_disk(tmp_path: Path, traces: Path, tiny: Path):
    """With the whole vocabulary kept, the loss a token from disk is full forward KL's within 5e-4."""
    examples = examples_of(traces, AutoTokenizer.from_pretrained(tiny))
    wanted = log_probs_of(tiny, list(examples.values()))
    vocabulary = wanted.shape[1]
    out = make(traces, tiny, tmp_path / "out", "topk", f"k={vocabulary}")
    signal = CachedTeacher(out, AutoTokenizer.from_pretrained(tiny)).signal(list(examples), list(examples.values()))
    torch.manual_seed(0)
    student = torch.randn(len(wanted), vocabulary, dtype=torch.float64)
    p = densify(signal, vocabulary)
    loss = (p * (p.log() - student.log_softmax(-1))).sum() / len(wanted)
    assert abs(loss - forward_kl(student, wanted) / len(wanted)) < 5e-4
    assert signal.log_tail.isneginf().all()


def test_another_tokenizer_or_other_tokens_are_refused(tmp_path: Path, traces: Path, tiny: Path):
    """A vocabulary with two ids exchanged; an answer and a prompt that changed; a trace that was not there."""
    out = make(traces, tiny, tmp_path / "out", "topk", "k=2")
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    teacher, examples = CachedTeacher(out, tokenizer), examples_of(traces, tokenizer)
    example = examples["row-1"]
    assert "row-1" in teacher and "row-77" not in teacher
    with pytest.raises(DataError, match=r"no signal of trace 'row-77'"):
        teacher.signal(["row-77"], [example])
    with pytest.raises(DataError, match=r"'row-1' was scored with another answer"):
        teacher.signal(["row-1"], [Example([*example.tokens, 5], example.n_prompt_tokens)])
    with pytest.raises(DataError, match=r"'row-1' was scored behind another prompt"):
        teacher.signal(["row-1"], [Example([7, *example.tokens[1:]], example.n_prompt_tokens)])
    other = PreTrainedTokenizerFast.from_pretrained(tiny)
    other.add_tokens(["<new>"])
    assert tokenizer_hash(other) != tokenizer_hash(tokenizer)
    with pytest.raises(DataError, match="a student needs its teacher's tokenizer"):
        CachedTeacher(out, other)
