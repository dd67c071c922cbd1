"""Rows of a file as a student reads them, and the tiny model in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from trainers.lm_rows import Bounds, LearnedRow, select
from trainers.objectives.forward_kl import forward_kl
from trainers.signals import Labelled, Signal

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of another test's."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    """Of the tiny model."""
    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture
def rows(traces: Path, tokenizer: Any) -> list[LearnedRow]:
    """The twelve rows."""
    found = Rows(traces, Trace, "test", InputParams())
    bounds = Bounds(max_tokens=512, context=512, max_rows_per_prompt=9)
    return select(found, bounds, tokenizer, frozenset({1}), stage="test")[0]


@pytest.fixture
def logits_alone(tiny: Path) -> Callable[[list[LearnedRow]], Tensor]:
    """(N, V) logits before each learned token by transformers, each row by itself, float64."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64).eval()

    def logits(rows: list[LearnedRow]) -> Tensor:
        with torch.no_grad():
            return torch.cat(
                [model(torch.tensor([r.example.tokens])).logits[0, r.example.n_prompt_tokens - 1 : -1] for r in rows]
            )

    return logits


@pytest.fixture
def loss_and_gradient() -> Callable[[Tensor, Signal, Tensor], tuple[Tensor, Tensor]]:
    """Forward KL a token of given student logits, and its gradient by them."""

    def both(student: Tensor, signal: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = student.clone().requires_grad_()
        mask = torch.ones(len(tokens), dtype=torch.bool)
        loss, n = forward_kl(logits, Labelled(tokens, signal), mask)
        loss.backward()
        assert logits.grad is not None
        return loss.detach() / n, logits.grad

    return both
