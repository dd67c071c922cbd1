"""Oracle: the least possible radius, by every subset; points on a line by hand."""

import itertools

import numpy as np
import pytest

from condense.coresets import Candidates
from condense.coresets.k_center import Config, k_center


def radius(features: np.ndarray, chosen: tuple[int, ...]) -> float:
    return float(np.linalg.norm(features[:, None] - features[list(chosen)], axis=2).min(axis=1).max())


@pytest.mark.parametrize("seed", range(8))
def test_at_most_twice_the_least_radius(seed: int):
    features = np.random.default_rng(seed).normal(size=(10, 2))
    candidates = Candidates(features=features, labels=np.zeros(10, dtype=np.int64))
    for size in (1, 2, 3, 4):
        chosen = k_center(Config(), candidates, [size], seed=0)
        least = min(radius(features, subset) for subset in itertools.combinations(range(10), size))
        assert radius(features, tuple(chosen.tolist())) <= 2 * least + 1e-12


def test_on_a_line_by_hand():
    """Mean 4.2 of 0, 1, 4, 6, 10: first 4, then 10 (distance 6), then 0 (4), then 6 (2 of 4), at last 1."""
    features = np.array([[10.0], [0.0], [4.0], [1.0], [6.0]])
    candidates = Candidates(features=features, labels=np.zeros(5, dtype=np.int64))
    assert features[k_center(Config(), candidates, [5], seed=0), 0].tolist() == [4, 10, 0, 6, 1]


def test_each_class_for_itself_and_equal_rows_once_each():
    """Class 1 has equal rows alone: nothing is far from the first, and none is taken twice."""
    features = np.array([[0.0], [5.0], [9.0], [5.0], [5.0]])
    candidates = Candidates(features=features, labels=np.array([0, 1, 0, 1, 1]))
    assert k_center(Config(), candidates, [1, 3], seed=0).tolist() == [0, 1, 3, 4]
