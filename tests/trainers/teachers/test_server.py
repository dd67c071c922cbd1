"""Oracles: transformers' log-probs of each row alone, behind a real HTTP server on loopback."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from datagen.backends.transformers_models import Example
from datagen.contracts.errors import BackendError, DataError, ParamsError
from datagen.contracts.params import validate
from tests.prompt_logprobs_server import Scoring, scoring_server
from trainers import model_server
from trainers.batches import collate
from trainers.lm_rows import LearnedRow
from trainers.teachers.server import Config, ServerTeacher, server

Both = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture
def scoring(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scoring]:
    monkeypatch.setattr(model_server, "FIRST_WAIT_S", 0.01)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64).eval()
    with scoring_server(model) as found:
        yield found


def teacher(scoring: Scoring, tiny: Path, tokenizer: Any, **more: Any) -> ServerTeacher:
    config = Config(teacher=str(tiny), base_url=scoring.base_url, served_as="tiny", **more)
    return server(config, tokenizer, torch.device("cpu"))


def test_the_whole_vocabulary_from_a_server_is_the_model(
    scoring: Scoring, tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path,
    logits_alone: Callable[..., Tensor], loss_and_gradient: Both,
):  # fmt: skip
    """At student = teacher nothing moves; one request a row, none again for the next batch nor in the next run."""
    asked = teacher(scoring, tiny, tokenizer, top_logprobs=259)
    assert asked.prepare(rows, tmp_path) == {}
    batch = collate([row.example for row in rows])
    loss, gradient = loss_and_gradient(logits_alone(rows), asked.signal(rows, batch), batch.labels)
    assert abs(loss) < 1e-12 and gradient.abs().max() < 1e-12
    assert teacher(scoring, tiny, tokenizer, top_logprobs=259).prepare(rows, tmp_path) == {}
    assert len(scoring.bodies) == 12
    assert {tuple(body["prompt"]) for body in scoring.bodies} == {tuple(row.example.tokens) for row in rows}


def test_the_likeliest_the_one_that_is_there_and_the_tail(
    scoring: Scoring, tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path,
    logits_alone: Callable[..., Tensor], loss_and_gradient: Both,
):  # fmt: skip
    """20 or 21 entries a token, by transformers' own log-probs; the rest is one outcome, and the gradient stays 0."""
    asked = teacher(scoring, tiny, tokenizer)
    asked.prepare(rows, tmp_path)
    batch = collate([row.example for row in rows])
    signal = asked.signal(rows, batch)
    wanted = logits_alone(rows).log_softmax(-1)
    held = ~signal.log_weights.isneginf()
    assert set(held.sum(1).tolist()) == {20, 21}
    torch.testing.assert_close(signal.log_weights[held], wanted.gather(1, signal.ids)[held], rtol=0, atol=1e-12)
    for ids, entries, token in zip(signal.ids, held, batch.labels, strict=True):
        assert token in ids[entries]
    tail = 1 - (wanted.gather(1, signal.ids).exp() * held).sum(1)
    torch.testing.assert_close(signal.log_tail.exp(), tail, rtol=0, atol=1e-12)
    loss, gradient = loss_and_gradient(logits_alone(rows), signal, batch.labels)
    assert abs(loss) < 1e-12 and gradient.abs().max() < 1e-12


def test_answers_of_the_student_are_asked_about_when_they_come(
    scoring: Scoring, tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path,
    logits_alone: Callable[..., Tensor],
):  # fmt: skip
    """A row of the same id with other tokens."""
    asked = teacher(scoring, tiny, tokenizer)
    asked.prepare(rows, tmp_path)
    prompt = rows[0].example.tokens[: rows[0].example.n_prompt_tokens]
    drawn = replace(rows[0], example=Example([*prompt, 9, 8], len(prompt)), drawn=True)
    signal = asked.signal([drawn], collate([drawn.example]))
    wanted = logits_alone([drawn]).log_softmax(-1).gather(1, signal.ids)
    held = ~signal.log_weights.isneginf()
    torch.testing.assert_close(signal.log_weights[held], wanted[held], rtol=0, atol=1e-12)
    assert len(scoring.bodies) == 13


def test_what_the_server_cannot_score_is_named(
    scoring: Scoring, tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path
):
    """Rows beyond its context; where it scores none at all, training does not start."""
    scoring.context = 1 + sorted(map(len, rows))[5]
    asked = teacher(scoring, tiny, tokenizer)
    found = asked.prepare(rows, tmp_path)
    assert set(found) == {row.id for row in rows if len(row) + 1 > scoring.context}
    assert all(reason == "not_scored" and "maximum context length" in text for reason, text in found.values())
    refused = next(row for row in rows if row.id in found)
    with pytest.raises(DataError, match=f"row '{refused.id}' was not scored: .*status 400"):
        asked.signal([refused], collate([refused.example]))
    scoring.context = 1
    with pytest.raises(BackendError, match="not one of 12 rows was scored"):
        teacher(scoring, tiny, tokenizer, provider="another").prepare(rows, tmp_path)


def test_a_server_that_is_busy_or_away(
    scoring: Scoring, tiny: Path, tokenizer: Any, rows: list[LearnedRow], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """Busy twice: asked again. Away, not vLLM, or of other tokens: one line."""
    scoring.fails = 2
    assert teacher(scoring, tiny, tokenizer).prepare(rows[:1], tmp_path) == {}
    assert len(scoring.bodies) == 3
    replies: list[tuple[dict[str, Any], str]] = [
        ({"choices": [{"text": "x"}]}, "its reply has no prompt_logprobs; the server must be vLLM"),
        ({"choices": [{"prompt_logprobs": [None, {"7": {"logprob": -1.0}}]}]}, "are of other tokens than those asked"),
    ]
    for reply, says in replies:
        scoring.changed = reply
        with pytest.raises(BackendError, match=says):
            teacher(scoring, tiny, tokenizer).prepare(rows[1:2], tmp_path)
    monkeypatch.setattr(model_server, "N_TRIES", 2)
    away = Config(teacher=str(tiny), base_url="http://127.0.0.1:9/v1", served_as="tiny")
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:9/v1/completions: .*gave up after 2 tries"):
        server(away, tokenizer, torch.device("cpu")).prepare(rows[:1], tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"base_url": "localhost"}, "base_url: .*expected a URL"),
        ({"top_logprobs": 0}, "top_logprobs: Input should be greater than or equal to 1"),
        ({"api_key_env": "sk-1"}, "api_key_env: String should match"),
    ],
)
def test_what_is_no_server(changed: dict[str, Any], says: str):
    with pytest.raises(ParamsError, match=says):
        validate({"teacher": "x", "base_url": "http://h/v1", "served_as": "m"} | changed, Config)
