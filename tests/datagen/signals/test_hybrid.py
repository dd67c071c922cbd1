"""Oracles: autograd on full forward KL; sums by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from datagen.contracts.errors import ParamsError
from datagen.contracts.signal_columns import Signal
from datagen.signals.hybrid import Config, hybrid, layout
from tests.datagen.signals.conftest import N_DRAWS
from tests.oracles import forward_kl_gradient, sparse_gradient


def test_the_mean_gradient_is_full_forward_kl_s(
    teacher: Tensor, student: Tensor, dense: Callable[[Signal, int], Tensor]
):
    """Over 10,000 draws of 4 beside the likeliest 2, by each of the student's logits, within 3 standard errors."""
    signal = hybrid(Config(k=2, n_draws=4), teacher.expand(N_DRAWS, -1), "trace", 0)
    gradients = sparse_gradient(student.expand(N_DRAWS, -1), dense(signal, 8))
    error = gradients.std(dim=0) / N_DRAWS**0.5
    off = gradients.mean(dim=0) - forward_kl_gradient(student[None], teacher[None])[0]
    floor = 1e-12  # of the exact entries nothing varies
    assert (off.abs() <= 3 * error + floor).all()
    assert error[2:].min() > 0 and error.max() < 0.01


def test_head_exact_tail_weighted_by_its_mass(teacher: Tensor):
    """The head is 0.5 and 0.2; the draws' weights are counts * 0.3 / 4, and all weights sum to 1."""
    signal = hybrid(Config(k=2, n_draws=4), teacher[None], "t", 0)
    assert np.exp(signal.log_probs[0]) == pytest.approx([0.5, 0.2], abs=1e-12)
    assert math.exp(signal.log_tail[0]) == pytest.approx(0.3, abs=1e-12)
    weights = np.exp(signal.drawn_log_weights)
    assert weights == pytest.approx(signal.drawn_counts * 0.3 / 4, abs=1e-12)
    assert weights.sum() + 0.7 == pytest.approx(1, abs=1e-12)
    assert not set(signal.drawn_ids.tolist()) & set(signal.ids[0].tolist())


def test_a_tail_without_mass_gets_no_draws():
    """Two tokens hold everything; the position beside it is drawn from as if alone."""
    log_probs = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25]], dtype=torch.float64).log()
    signal = hybrid(Config(k=2, n_draws=3), log_probs, "t", 0)
    assert signal.n_drawn.tolist() == [0, 1]
    assert signal.drawn_ids.tolist() == [2] and signal.drawn_counts.tolist() == [3]


def test_no_tail_is_refused():
    with pytest.raises(ParamsError, match="so nothing is left"):
        layout(Config(k=8), 8)
