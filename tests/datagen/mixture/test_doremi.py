"""Oracles: updates by hand, and the mean of the updates that a loop keeps."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from datagen.contracts.errors import DataError
from datagen.mixture import Mix, Seen
from datagen.mixture.doremi import Config, doremi, update

REFERENCE = np.array([2.0, 2.0, 2.0])


def seen(losses: list[float] | np.ndarray) -> Seen:
    return Seen(names=list("abc"), n_tokens=np.ones(3), student_losses=np.array(losses), reference_losses=REFERENCE)


def test_one_update_by_hand():
    """Excess ln 2, 0 and 0 (the proxy is better, which is clipped) from thirds: 2 : 1 : 1, then c = .1 of a third."""
    start = doremi(Config(), None, seen([9.0, 9.0, 9.0]))
    assert start.weights == approx((1 / 3,) * 3) and not start.memory
    new = doremi(Config(mixture_smoothing=0.1), start, seen([2 + math.log(2), 2.0, 0.5]))
    assert new.weights == approx((0.45 + 0.1 / 3, 0.225 + 0.1 / 3, 0.225 + 0.1 / 3), abs=1e-15)
    assert update(np.array([0.5, 0.5]), np.array([math.log(3), 0]), step_size=2.0, smoothing=0) == approx([0.9, 0.1])


def test_the_mean_is_of_the_updates_alone():
    """Against a list of all weights after the first; a Mix that went through JSON goes on alike."""
    losses = 2 + np.random.default_rng(0).random((20, 3))
    mix, after = doremi(Config(), None, seen(losses[0])), []
    for row in losses:
        mix = doremi(Config(), Mix(**json.loads(json.dumps({"weights": mix.weights, "memory": mix.memory}))), seen(row))
        after.append(mix.weights)
    assert mix.memory["mean"] == approx(np.mean(after, axis=0).tolist(), abs=1e-12)
    assert mix.memory["n_updates"] == [20.0] and sum(mix.memory["mean"]) == approx(1)


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), st.floats(0, 1), st.permutations(range(3)))
def test_sum_floor_and_order(excess: list[float], smoothing: float, order: list[int]):
    old = np.array([0.2, 0.3, 0.5])
    new = update(old, np.array(excess), step_size=1.0, smoothing=smoothing)
    assert new.sum() == approx(1) and (new >= smoothing / 3 - 1e-15).all()
    assert update(old[order], np.array(excess)[order], step_size=1.0, smoothing=smoothing) == approx(new[order])


def test_a_diverged_proxy_is_named():
    with pytest.raises(DataError, match="'b' has loss inf"):
        doremi(Config(), Mix(weights=(0.2, 0.3, 0.5)), seen([1.0, math.inf, 1.0]))
