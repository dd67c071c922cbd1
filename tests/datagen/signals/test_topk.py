"""Oracles: sums in exact fractions and high precision; autograd on the whole vocabulary."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from datagen.contracts.errors import ParamsError
from datagen.contracts.signal_columns import Signal
from datagen.signals.topk import Config, layout, topk
from tests.oracles import forward_kl, forward_kl_gradient, sparse_gradient


def test_entries_and_tail_by_hand(teacher: Tensor):
    """0.5 and 0.2 stay, the others sum to 0.3."""
    signal = topk(Config(k=2), teacher.flip(0)[None], "t", 0)
    assert signal.ids.tolist() == [[7, 6]]
    assert np.exp(signal.log_probs[0]) == pytest.approx([0.5, 0.2], abs=1e-12)
    assert math.exp(signal.log_tail[0]) == pytest.approx(0.3, abs=1e-12)


def test_a_tail_too_small_for_1_minus_the_sum():
    """999 tokens of e**-40 beside one of nearly 1, where 1 minus a float32 sum is 0: log 999 - 40, from fractions."""
    logits = torch.full((1, 1000), -40.0, dtype=torch.float64)
    logits[0, 3] = 0.0
    signal = topk(Config(k=1), logits.log_softmax(-1), "t", 0)
    e40 = Fraction(math.exp(-40))
    assert signal.log_tail[0] == pytest.approx(math.log(999 * e40 / (1 + 999 * e40)), abs=1e-12)


def test_with_the_whole_vocabulary_it_is_full_forward_kl(
    teacher: Tensor, student: Tensor, dense: Callable[[Signal, int], Tensor]
):
    """The loss of the signal's own weights is full forward KL's within 1e-12, and no tail is left."""
    signal = topk(Config(k=8), teacher[None], "t", 0)
    weights = dense(signal, 8)
    loss = (weights * (weights.log() - student.log_softmax(-1))).sum()
    assert loss.item() == pytest.approx(forward_kl(student[None], teacher[None]).item(), abs=1e-12)
    assert np.isneginf(signal.log_tail).all()


def test_bias_is_the_tail(teacher: Tensor, student: Tensor, dense: Callable[[Signal, int], Tensor]):
    """Renormalised, the gradient is off by twice the tail's mass in L1: 0.3 missing below, 0.3 too much above."""
    weights = dense(topk(Config(k=2), teacher[None], "t", 0), 8)
    biased = sparse_gradient(student[None], weights / weights.sum())
    bias = (biased - forward_kl_gradient(student[None], teacher[None])).abs().sum()
    assert bias.item() == pytest.approx(2 * 0.3, abs=1e-12)


def test_more_than_the_vocabulary_is_refused():
    with pytest.raises(ParamsError, match=r"k: the teacher's vocabulary has 8 tokens \(got 9\)"):
        layout(Config(k=9), 8)
