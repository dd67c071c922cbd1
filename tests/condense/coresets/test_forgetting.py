"""Oracle: events counted by hand in a written history."""

from collections import Counter

import numpy as np
import pytest

from condense.coresets import Candidates
from condense.coresets.forgetting import Config, forgetting, n_forgotten
from datagen.contracts.errors import DataError, ParamsError

HISTORY = ("11111", "01010", "00000", "10101", "00111", "10000", "11110", "11011")
"""A row each, epoch after epoch: 0, 2, never right, 2, 0, 1, 1, 1 events."""


def candidates(*histories: str, labels: list[int] | None = None) -> Candidates:
    correct = np.array([[char == "1" for char in one] for one in histories]).T
    return Candidates(
        features=np.zeros((len(histories), 1)), labels=np.array(labels or [0] * len(histories)), correct=correct
    )


def test_events_by_hand():
    assert n_forgotten(candidates(*HISTORY)).tolist() == [0, 2, 5, 2, 0, 1, 1, 1]


def test_the_most_forgotten_first_and_a_row_that_is_never_right_before_all():
    for seed in range(5):
        chosen = forgetting(Config(), candidates(*HISTORY), [6], seed=seed).tolist()
        assert (chosen[0], set(chosen[1:3]), set(chosen[3:])) == (2, {1, 3}, {5, 6, 7})


def test_ties_are_drawn_each_as_likely():
    """Of rows 5, 6, 7, with one event each, the fourth place: 300 seeds, within 5 standard deviations of 100."""
    counts = Counter(int(forgetting(Config(), candidates(*HISTORY), [4], seed=seed)[3]) for seed in range(300))
    assert set(counts) == {5, 6, 7}
    assert all(abs(count - 100) < 5 * (300 / 3 * 2 / 3) ** 0.5 for count in counts.values())


def test_class_by_class():
    labels = [1, 1, 0, 0, 1, 0, 0, 1]
    chosen = forgetting(Config(), candidates(*HISTORY, labels=labels), [2, 2], seed=0).tolist()
    assert chosen == [2, 3, 1, 7]


def test_what_it_needs_is_said():
    without = Candidates(features=np.zeros((2, 1)), labels=np.zeros(2, dtype=np.int64))
    with pytest.raises(ParamsError, match=r"after 2 epochs or more \(got 0\); give trajectories"):
        forgetting(Config(), without, [1], seed=0)
    with pytest.raises(ParamsError, match=r"got 1"):
        forgetting(Config(), candidates("1", "0"), [1], seed=0)
    other = Candidates(features=without.features, labels=without.labels, correct=np.ones((3, 5), dtype=bool))
    with pytest.raises(DataError, match=r"shape \(3, 5\); give 2 columns"):
        forgetting(Config(), other, [1], seed=0)
