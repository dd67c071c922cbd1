"""Oracles: the network on each trace alone; dense weights added up here; full forward KL."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from datagen.backends.transformers_models import Example, encode, tokenizer_hash
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from datagen.contracts.stage import main
from datagen.stages.teacher_signals import STAGE
from tests.oracles import forward_kl
from trainers.batches import collate, completion_logits
from trainers.lm_rows import LearnedRow
from trainers.signals import SparseLogProbs
from trainers.teachers._token_signals import StoredSignals
from trainers.teachers.cached import Config, cached
from trainers.teachers.online import Config as OnlineConfig
from trainers.teachers.online import online

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


@pytest.mark.parametrize("method", OPTIONS)
def test_a_signal_stands_at_the_tokens_that_a_batch_learns(tmp_path: Path, traces: Path, tiny: Path, method: str):
    """Row for row of `Batch.labels`, in another order than the dataset's: mass and exact entries are the network's."""
    teacher = StoredSignals(
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
    signal = StoredSignals(out, AutoTokenizer.from_pretrained(tiny)).signal(list(examples), list(examples.values()))
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
    teacher, examples = StoredSignals(out, tokenizer), examples_of(traces, tokenizer)
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
        StoredSignals(out, other)


def test_top_32_at_student_equal_to_teacher(
    tmp_path: Path, traces: Path, tiny: Path, tokenizer: Any, rows: list[LearnedRow],
    logits_alone: Callable[..., Tensor], loss_and_gradient: Callable[..., tuple[Tensor, Tensor]],
):  # fmt: skip
    """The gradient by the logits: below 1e-12 with the entries as they are, below 5e-4 with those from disk."""
    logits = logits_alone(rows)
    batch = collate([row.example for row in rows])
    log_probs, ids = logits.log_softmax(-1).topk(32)
    tail = torch.log1p(-log_probs.exp().sum(-1))
    loss, gradient = loss_and_gradient(logits, SparseLogProbs(ids, log_probs, tail, vocabulary=259), batch.labels)
    assert abs(loss) < 1e-12 and gradient.abs().max() < 1e-12
    path = make(traces, tiny, tmp_path / "out", "topk", "k=32")
    teacher = cached(Config(), tokenizer, torch.device("cpu"), signals=path)
    assert teacher.prepare(rows, tmp_path) == {}
    loss, gradient = loss_and_gradient(logits, teacher.signal(rows, batch), batch.labels)
    assert abs(loss) < 5e-4 and gradient.abs().max() < 5e-4


def test_cached_signals_are_the_online_teacher_s(
    tmp_path: Path, traces: Path, tiny: Path, tokenizer: Any, rows: list[LearnedRow],
    logits_alone: Callable[..., Tensor], loss_and_gradient: Callable[..., tuple[Tensor, Tensor]],
):  # fmt: skip
    """For another student: of the whole vocabulary, loss and gradient are the online teacher's to the storage error."""
    path = make(traces, tiny, tmp_path / "out", "topk", "k=259")
    batch = collate([row.example for row in rows])
    torch.manual_seed(0)
    student = torch.randn(len(batch.labels), 259, dtype=torch.float64)
    stored = cached(Config(), tokenizer, torch.device("cpu"), signals=path)
    live = online(OnlineConfig(teacher=str(tiny), teacher_dtype="float64"), tokenizer, torch.device("cpu"))
    loss, gradient = loss_and_gradient(student, stored.signal(rows, batch), batch.labels)
    wanted, its_gradient = loss_and_gradient(student, live.signal(rows, batch), batch.labels)
    assert abs(loss - wanted) < 5e-4 and (gradient - its_gradient).abs().max() < 5e-4


def test_rows_without_a_signal_are_named_before_training(
    tmp_path: Path, traces: Path, tiny: Path, tokenizer: Any, rows: list[LearnedRow]
):
    """One that was not scored, one that says something else by now; and no dataset at all."""
    path = make(traces, tiny, tmp_path / "out", "topk", "k=2")
    new = replace(rows[0], id="new")
    changed = replace(rows[1], example=Example([*rows[1].example.tokens, 5], rows[1].example.n_prompt_tokens))
    teacher = cached(Config(), tokenizer, torch.device("cpu"), signals=path)
    found = teacher.prepare([new, changed, *rows[2:]], tmp_path)
    assert {id: reason for id, (reason, _) in found.items()} == {"new": "no_signal", "row-1": "other_tokens"}
    assert "rejections.parquet may say why" in found["new"][1]
    with pytest.raises(ParamsError, match="name it with --signals"):
        cached(Config(), tokenizer, torch.device("cpu"))
