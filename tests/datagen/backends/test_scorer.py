"""Oracles: transformers' own loss, one answer at a time and unpadded; ln V a token where all tokens are as likely."""

import math
from pathlib import Path
from typing import Any

import pytest

from datagen.backends.scorer import Config, Scorer, answer_text
from datagen.contracts.errors import MissingError
from datagen.contracts.records import Prompt, Trace
from tests.tiny_model import write_tiny_model

ANSWERS = ("A fox.", "No.", "A fox ran into the wood, and nobody saw it again. " * 3, "2 + 2 = 4")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def trace(i: int, completion: str, *, prompt: str = "Tell me", **more: Any) -> Trace:
    asked = Prompt(id=f"p{i}", messages=[{"role": "user", "content": f"{prompt} {'more ' * i}"}])
    return Trace(id=f"p{i}#0.00000000", prompt=asked, completion=completion, **more)


def test_the_likelihood_is_transformers_loss(tmp_path: Path):
    """Prompts and answers of many lengths share a batch here, and each stands alone there."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = write_tiny_model(tmp_path / "tiny")
    traces = [trace(i, completion) for i, completion in enumerate(ANSWERS)]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(folder)
    scores = Scorer(Config(model=str(folder))).score(traces)
    for one, score in zip(traces, scores, strict=True):
        prompt = tokenizer.apply_chat_template(
            [dict(message) for message in one.prompt.messages], add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer(one.completion, add_special_tokens=False).input_ids
        ids, labels = torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])
        expected = network(input_ids=ids, labels=labels).loss.item() * len(answer)
        assert score.tokens == answer and score.nll == pytest.approx(expected, rel=1e-5)


def test_batches_do_not_change_a_score(tmp_path: Path):
    folder = write_tiny_model(tmp_path / "tiny")
    traces = [trace(i, completion) for i, completion in enumerate(ANSWERS)]
    together, alone = (
        [score.nll for score in Scorer(Config(model=str(folder), batch_tokens=n)).score(traces)] for n in (4096, 1)
    )
    assert together == pytest.approx(alone, rel=1e-5)


def test_where_all_tokens_are_as_likely_a_token_costs_ln_v(tmp_path: Path):
    """259 symbols: 256 bytes and three marks; so the perplexity is 259, and a byte is a token."""
    scores = Scorer(Config(model=str(write_tiny_model(tmp_path / "silent", silent=True)))).score([trace(0, "A fox.")])
    assert len(scores[0].tokens) == 6
    assert scores[0].nll == pytest.approx(6 * math.log(259), rel=1e-6)


def test_what_cannot_be_scored_says_why_and_keeps_its_length(tmp_path: Path):
    """No prompt, no text, more than the bound or than the model's 512 positions."""
    scorer = Scorer(Config(model=str(write_tiny_model(tmp_path / "tiny")), max_tokens=100))
    no_prompt = Trace(id="x", prompt=Prompt(id="x", messages=[]), completion="yes")
    scores = scorer.score([trace(0, ""), no_prompt, trace(1, "a" * 200), trace(2, "b")])
    assert [score.not_scored for score in scores] == ["empty", "no_prompt", "too_long", None]
    assert [len(score.tokens) for score in scores] == [0, 3, 200, 1]
    assert [score.nll is None for score in scores] == [True, True, True, False]
    wide = Scorer(Config(model=str(tmp_path / "tiny"), max_tokens=10_000)).score([trace(0, "a" * 600)])
    assert wide[0].not_scored == "too_long"


def test_reasoning_and_calls_are_part_of_what_was_said():
    assert answer_text(trace(0, "4", reasoning="2 + 2", tool_calls="[]")) == "2 + 2\n\n4\n\n[]"
    assert answer_text(trace(0, "4")) == "4"


def test_a_model_that_is_not_there(tmp_path: Path):
    with pytest.raises(MissingError, match=r"neither a folder nor a model of the Hub"):
        Scorer(Config(model=str(tmp_path / "nowhere")))
