"""Oracles: autograd on full forward KL; exact multinomial expectations; draws counted by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from datagen.contracts.signal_columns import Signal
from datagen.signals._entries import draw, uniforms
from datagen.signals.sampled import Config, layout, sampled
from tests.datagen.signals.conftest import N_DRAWS
from tests.oracles import forward_kl_gradient, sparse_gradient


@pytest.mark.parametrize("power", [1.0, 0.8, 1.2])
def test_the_mean_gradient_is_full_forward_kl_s(
    teacher: Tensor, student: Tensor, dense: Callable[[Signal, int], Tensor], power: float
):
    """Over 10,000 draws of 4 tokens, by each of the student's logits, within 3 standard errors."""
    config = Config(n_draws=4, proposal_power=power, seed=0)
    signal = sampled(config, teacher.expand(N_DRAWS, -1), "trace", 0)
    gradients = sparse_gradient(student.expand(N_DRAWS, -1), dense(signal, 8))
    error = gradients.std(dim=0) / N_DRAWS**0.5
    off = gradients.mean(dim=0) - forward_kl_gradient(student[None], teacher[None])[0]
    assert (off.abs() / error).max() < 3
    assert error.max() < 0.01  # so that 3 of them say something


def test_weights_made_to_sum_to_1_are_biased(teacher: Tensor, student: Tensor, dense: Callable[[Signal, int], Tensor]):
    """The departure that the docstring argues for: self-normalised at t = 0.5 the mean is off by many errors."""
    signal = sampled(Config(n_draws=4, proposal_power=0.5), teacher.expand(N_DRAWS, -1), "trace", 0)
    weights = dense(signal, 8)
    gradients = sparse_gradient(student.expand(N_DRAWS, -1), weights / weights.sum(dim=1, keepdim=True))
    off = gradients.mean(dim=0) - forward_kl_gradient(student[None], teacher[None])[0]
    assert (off.abs() / (gradients.std(dim=0) / N_DRAWS**0.5)).max() > 10


def test_equal_draws_are_one_entry_and_weights_sum_to_1(teacher: Tensor):
    """At t = 1: counts of a position sum to m, ids ascend, weights are counts over m."""
    signal = sampled(Config(n_draws=12), teacher.expand(50, -1), "t", 0)
    parts = np.split(np.arange(len(signal.drawn_ids)), np.cumsum(signal.n_drawn)[:-1])
    for part in parts:
        assert signal.drawn_counts[part].sum() == 12
        assert (np.diff(signal.drawn_ids[part]) > 0).all()
        assert np.exp(signal.drawn_log_weights[part]) == pytest.approx(signal.drawn_counts[part] / 12, abs=1e-12)


def test_ratios_are_teacher_over_proposal(teacher: Tensor):
    """With q = p**1.2 / sum p**1.2, computed here."""
    signal = sampled(Config(n_draws=30, proposal_power=1.2), teacher[None], "t", 0)
    p = teacher.exp().numpy()
    q = p**1.2 / (p**1.2).sum()
    assert np.exp(signal.drawn_log_ratios) == pytest.approx((p / q)[signal.drawn_ids], rel=1e-12)


def test_draws_are_those_of_seed_trace_and_position_alone(teacher: Tensor):
    """In one call or in two; another seed, trace or position draws others."""
    rows = teacher.expand(40, -1)
    whole = sampled(Config(n_draws=5), rows, "t", 0)
    later = sampled(Config(n_draws=5), rows[25:], "t", 25)
    assert whole[25:40].drawn_ids.tolist() == later.drawn_ids.tolist()
    for config, trace, first in ((Config(n_draws=5, seed=1), "t", 0), (Config(n_draws=5), "u", 0)):
        assert sampled(config, rows, trace, first).drawn_ids.tolist() != whole.drawn_ids.tolist()
    assert sampled(Config(n_draws=5), rows, "t", 1).drawn_ids.tolist() != whole.drawn_ids.tolist()


def test_points_are_uniform_and_a_draw_inverts_the_sum():
    """Cumulative sum .5, .5, 1 of (.5, 0, .5): below .5 the first, else the third; the mean of uniforms is a half."""
    points = np.array([[0.0, 0.4999, 0.5, 0.9999]])
    n_drawn, ids, counts = draw(torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64).log(), points)
    assert (n_drawn.tolist(), ids.tolist(), counts.tolist()) == ([2], [0, 2], [2, 2])
    many = uniforms(0, "t", 0, 1000, 10)
    assert many.min() >= 0 and many.max() < 1
    assert abs(many.mean() - 0.5) < 4 * (1 / 12 / many.size) ** 0.5


def test_the_paper_s_form_keeps_no_ratios():
    assert not layout(Config(), 8).tempered and layout(Config(proposal_power=0.9), 8).tempered
