"""Oracle: every row tried in every step, by the distance of means; a class whose mean two rows have exactly."""

import numpy as np
import pytest

from condense.coresets import Candidates
from condense.coresets.herding import Config, herding


def brute_force(features: np.ndarray, size: int) -> list[int]:
    mean, chosen = features.mean(axis=0), []
    for _ in range(size):
        left = [row for row in range(len(features)) if row not in chosen]
        distances = [np.linalg.norm(features[[*chosen, row]].mean(axis=0) - mean) for row in left]
        chosen.append(left[int(np.argmin(distances))])
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_every_step_is_the_best_single_step(seed: int):
    draw = np.random.default_rng(seed)
    features, labels = draw.normal(3, 1, size=(40, 5)), draw.permutation(np.repeat([0, 1], 20))
    chosen = herding(Config(), Candidates(features=features, labels=labels), [20, 7], seed=0).tolist()
    rows = [np.flatnonzero(labels == label) for label in (0, 1)]
    expected = [rows[0][i] for i in brute_force(features[rows[0]], 20)] + [
        rows[1][i] for i in brute_force(features[rows[1]], 7)
    ]
    assert chosen == expected


def test_by_hand():
    """Mean 4: of 3 and 5, which are as near, the first; then 5, with which the mean is 4."""
    features = np.array([[0.0], [3.0], [5.0], [8.0]])
    candidates = Candidates(features=features, labels=np.zeros(4, dtype=np.int64))
    assert herding(Config(), candidates, [2], seed=0).tolist() == [1, 2]
    assert herding(Config(), candidates, [4], seed=0).tolist()[:2] == [1, 2]


def test_all_of_a_class_is_a_permutation_of_it():
    features = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    chosen = herding(Config(), Candidates(features=features, labels=np.zeros(9, dtype=np.int64)), [9], seed=0)
    assert sorted(chosen.tolist()) == list(range(9))
