"""Oracle: every objective on the whole batch at once, by autograd through whole logits."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pytest import approx

from datagen.contracts.launch import launch
from tests.split_gradients import OBJECTIVES, Loss, Network, gradients, halves, rows
from trainers.loop import micro_batches
from trainers.objectives.likelihood_matching import likelihood_matching
from trainers.signals import HiddenStates, Labelled
from trainers.weighted import combined

SPLITS = {1: 1000, 2: 28, 7: 1}  # micro-batches, and the bound that makes as many


def whole(name: str) -> tuple[float, list[float]]:
    """Mean loss and gradient."""
    network, batch = Network(), rows()
    if name == "likelihood_matching":
        tokens = torch.cat([row.tokens for row in batch])
        logits = (network.embedding[tokens] @ network.layer).tanh() @ network.embedding.T
        part = likelihood_matching(logits, halves(batch), torch.ones(len(tokens), dtype=torch.bool))
        return (part.sum / part.n).item(), flat(torch.autograd.grad(part.sum / part.n, list(network.parameters())))
    objective = combined(OBJECTIVES[name])
    tokens, labels, states = (torch.cat([getattr(row, key) for row in batch]) for key in ("tokens", "labels", "states"))
    signal = Labelled(labels, HiddenStates(states, Loss(objective).head))
    logits = (network.embedding[tokens] @ network.layer).tanh() @ network.embedding.T

    def mean() -> Any:
        part = objective(logits, signal, torch.ones(len(tokens), dtype=torch.bool))
        return part.sum / part.n

    if objective.needs_first_pass:
        objective.begin(lambda: mean().item())
    loss = mean()
    return loss.item(), flat(torch.autograd.grad(loss, list(network.parameters())))


def flat(gradient: Sequence[torch.Tensor]) -> list[float]:
    return torch.cat([part.flatten() for part in gradient]).tolist()


def assert_equal(found: dict[str, dict[str, Any]]) -> None:
    for name, step in found.items():
        loss, gradient = whole(name)
        assert step["count"] == 28
        assert step["loss"] == approx(loss, rel=1e-12, abs=1e-12)
        assert step["gradient"] == approx(gradient, rel=1e-12, abs=1e-12)
        assert step["gradient_norm"] == approx(math.hypot(*gradient), rel=1e-12)


@pytest.mark.parametrize("n_micro_batches", SPLITS)
def test_a_split_into_micro_batches_changes_no_gradient(n_micro_batches: int):
    """Rows of 1 to 7 tokens, every objective."""
    assert len(micro_batches(rows(), SPLITS[n_micro_batches], 1)[0]) == n_micro_batches
    assert_equal(gradients(SPLITS[n_micro_batches]))


def test_a_split_over_two_processes_changes_no_gradient():
    """Under torchrun, each with micro-batches of unequal size; 28 tokens go as 16 and 12."""
    assert_equal(launch("tests.split_gradients:gradients", {"micro_batch_tokens": 7}, 2))
