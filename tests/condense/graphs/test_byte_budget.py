"""Oracle: every pair of thresholds tried, and a search done by hand."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from condense.graphs.byte_budget import thresholds_within
from condense.graphs.itemsets import Itemset, ordered, too_many
from datagen.contracts.errors import ParamsError

NAMES = ("no", "yes")
Mine = Callable[[int], list[Itemset]]


def reaching(found: list[Itemset], threshold: int) -> list[Itemset]:
    return ordered(one for one in found if one.support >= threshold)


def miners(*classes: list[Itemset]) -> tuple[list[Mine], list[int]]:
    return [partial(reaching, found) for found in classes], [max(one.support for one in found) for found in classes]


def nodes(one: Itemset) -> int:
    return 10 * len(one.items)


def size(patterns: Sequence[Sequence[Itemset]]) -> int:
    return sum(nodes(one) + 1 for found in patterns for one in found)


def test_by_hand():
    """Steps of the first class: 11, 22 and 64 bytes; of the second 11, 22 and 33. All take 97."""
    first = [Itemset(9, (1,)), Itemset(7, (2,)), Itemset(4, (1, 2)), Itemset(4, (1, 3))]
    second = [Itemset(20, (5,)), Itemset(15, (6,)), Itemset(2, (7,))]
    mine, tops = miners(first, second)
    assert thresholds_within(mine, tops, NAMES, nodes, size, 70) == [7, 2]
    assert thresholds_within(mine, tops, NAMES, nodes, size, 97) == [4, 2]
    assert thresholds_within(mine, tops, NAMES, nodes, size, 54) == [7, 15]
    # 33: the first class, which is first of equals, takes what is left
    assert thresholds_within(mine, tops, NAMES, nodes, size, 33) == [7, 20]
    assert thresholds_within(mine, tops, NAMES, nodes, size, 22) == [9, 20]
    with pytest.raises(ParamsError, match=r"of the largest supports \(9, 20\) take 22 bytes \(got 21\); raise it"):
        thresholds_within(mine, tops, NAMES, nodes, size, 21)


@pytest.mark.parametrize("seed", range(6))
def test_no_class_could_go_further(seed: int):
    draw = np.random.default_rng(seed)
    classes = [
        [Itemset(int(draw.integers(1, 12)), (i,) * int(draw.integers(1, 4))) for i in range(10)] for _ in range(2)
    ]
    mine, tops = miners(*classes)
    for budget in range(size([m(t) for m, t in zip(mine, tops, strict=True)]), 600, 37):
        chosen = thresholds_within(mine, tops, NAMES, nodes, size, budget)
        assert size([m(t) for m, t in zip(mine, chosen, strict=True)]) <= budget
        for other in itertools.product(*(range(1, top + 1) for top in tops)):
            is_lower = [m(t) != m(c) and t <= c for m, t, c in zip(mine, other, chosen, strict=True)]
            if any(is_lower) and all(t <= c for t, c in zip(other, chosen, strict=True)):
                assert size([m(t) for m, t in zip(mine, other, strict=True)]) > budget


def test_too_many_at_the_largest_support():
    def refuse(threshold: int) -> list[Itemset]:
        raise too_many(threshold, 5)

    said = r"itemsets of class 'yes' of the largest support, 3, which are more than bytes \(got 5\); raise byte_budget"
    with pytest.raises(ParamsError, match=said):
        thresholds_within([lambda _: [Itemset(3, ())], refuse], [3, 3], NAMES, nodes, size, 5)


def test_another_error_of_a_miner_is_not_a_threshold_that_does_not_fit():
    def refuse(threshold: int) -> list[Itemset]:
        if threshold < 3:
            raise ParamsError("max_itemsets: more than 5")
        return [Itemset(3, (1,))]

    with pytest.raises(ParamsError, match="max_itemsets: more than 5"):
        thresholds_within([refuse], [3], NAMES, nodes, size, 50)
