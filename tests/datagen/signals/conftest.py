"""A teacher and another student over eight tokens, and signals as dense weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from datagen.contracts.signal_columns import Signal

N_DRAWS = 10_000


@pytest.fixture
def teacher() -> Tensor:
    """(8,) log-probs, float64, from 0.5 down to 0.002."""
    return torch.tensor([0.5, 0.2, 0.12, 0.08, 0.06, 0.03, 0.008, 0.002], dtype=torch.float64).log()


@pytest.fixture
def student() -> Tensor:
    """(8,) logits in another order."""
    return torch.tensor([0.1, -1.0, 2.0, 0.3, -0.5, 1.0, 0.0, -2.0], dtype=torch.float64)


@pytest.fixture
def dense() -> Callable[[Signal, int], Tensor]:
    """The weights of a signal's entries as an (N, V) table, filled entry by entry."""

    def fill(signal: Signal, vocabulary: int) -> Tensor:
        table = np.zeros((len(signal), vocabulary))
        drawn = 0
        exact, weights = np.exp(signal.log_probs), np.exp(signal.drawn_log_weights)
        for position in range(len(signal)):
            for token, weight in zip(signal.ids[position], exact[position], strict=True):
                table[position, token] += weight
            for _ in range(signal.n_drawn[position]):
                table[position, signal.drawn_ids[drawn]] += weights[drawn]
                drawn += 1
        assert drawn == len(signal.drawn_ids)
        return torch.from_numpy(table)

    return fill
