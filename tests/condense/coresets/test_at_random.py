"""Oracle: counts of classes by hand; every row of a class as likely as any other."""

from collections import Counter

import numpy as np
import pytest

from condense.coresets import Candidates
from condense.coresets.at_random import Config, at_random
from datagen.contracts.errors import DataError

LABELS = np.array([2, 0, 1, 0, 2, 0, 1, 0, 2, 0])
CANDIDATES = Candidates(features=np.zeros((10, 1)), labels=LABELS)


def test_as_many_of_each_class_as_asked_none_twice():
    chosen = at_random(Config(), CANDIDATES, [3, 0, 2], seed=1)
    assert LABELS[chosen].tolist() == [0, 0, 0, 2, 2]
    assert len(set(chosen.tolist())) == 5
    assert at_random(Config(), CANDIDATES, [0, 0, 0], seed=1).tolist() == []


def test_equal_seeds_draw_equal_rows_and_each_row_is_as_likely():
    """Class 0 has five rows, two are drawn: each in 2/5 of 500 draws, within 5 standard deviations."""
    draws = [at_random(Config(), CANDIDATES, [2, 0, 0], seed=seed).tolist() for seed in range(500)]
    assert at_random(Config(), CANDIDATES, [2, 0, 0], seed=7).tolist() == draws[7]
    counts = Counter(row for draw in draws for row in draw)
    assert set(counts) == {1, 3, 5, 7, 9}
    assert all(abs(count - 200) < 5 * (500 * 0.4 * 0.6) ** 0.5 for count in counts.values())


def test_a_class_is_drawn_for_itself():
    """What is drawn of class 2 does not depend on how many of the others are."""
    alone, together = (
        at_random(Config(), CANDIDATES, [0, 0, 2], seed=3),
        at_random(Config(), CANDIDATES, [5, 2, 2], seed=3),
    )
    assert alone.tolist() == together[-2:].tolist()


@pytest.mark.parametrize(
    ("features", "labels", "sizes", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1, 1]), [2, 1], "class 0 has 1 rows, 2 are wanted"),
        (np.zeros((3, 2)), np.array([0, 1, 1]), [1, -1], "class 1 has 2 rows, -1 are wanted"),
        (np.zeros((3, 2)), np.array([0, 1, 2]), [1, 1], "labels run from 0 to 2; there are 2 sizes"),
        (np.zeros((3, 2)), np.array([0, 1]), [1, 1], r"features have shape \(3, 2\), labels \(2,\)"),
        (np.zeros((3, 2, 2)), np.array([0, 1, 1]), [1, 1], r"features have shape \(3, 2, 2\)"),
        (np.array([[0.0], [np.nan], [1.0]]), np.array([0, 1, 1]), [1, 1], "row 1 hold NaN or infinity"),
    ],
)
def test_candidates_that_cannot_be_chosen_from_are_refused(
    features: np.ndarray, labels: np.ndarray, sizes: list[int], message: str
):
    with pytest.raises(DataError, match=message):
        at_random(Config(), Candidates(features=features, labels=labels), sizes, seed=0)
