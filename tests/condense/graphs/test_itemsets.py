"""Oracle: every itemset of up to 12 items, or of 4 items with copies, tried against every transaction."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from condense.graphs.itemsets import Holdings, Itemset, closed, frequent, holdings, maximal, ordered
from datagen.contracts.errors import ParamsError

Wanted = tuple[int, ...]  # copies of each item


def tried(counts: np.ndarray, threshold: int, copies: int) -> tuple[dict[Wanted, int], ...]:
    """Support of the frequent, the closed and the maximal itemsets."""
    supports: dict[Wanted, int] = {}
    for wanted in itertools.product(range(copies + 1), repeat=counts.shape[1]):
        support = int((counts >= np.array(wanted)).all(axis=1).sum())
        if any(wanted) and support >= threshold:
            supports[wanted] = support

    def larger(one: Wanted) -> list[Wanted]:
        steps = ((*one[:i], one[i] + 1, *one[i + 1 :]) for i in range(len(one)))
        return [step for step in steps if step in supports]

    alone = {one for one in supports if all(supports[more] < supports[one] for more in larger(one))}
    last = {one for one in supports if not larger(one)}
    return supports, {one: supports[one] for one in alone}, {one: supports[one] for one in last}


def held_by(counts: np.ndarray, threshold: int, copies: int = 1) -> Holdings:
    transactions, items = np.nonzero(counts)
    held = counts[transactions, items]
    return holdings(transactions, items, held, threshold=threshold, multiplicity=copies)


def by_copies(found: list[Itemset], n_items: int) -> dict[Wanted, int]:
    supports = {tuple(one.items.count(i) for i in range(n_items)): one.support for one in found}
    assert len(supports) == len(found)
    return supports


@pytest.mark.parametrize(
    ("seed", "n_items", "n", "share"), [(0, 12, 70, 0.4), (1, 12, 30, 0.5), (2, 9, 129, 0.7), (3, 1, 3, 1)]
)
def test_every_itemset_is_found_once(seed: int, n_items: int, n: int, share: float):
    counts = (np.random.default_rng(seed).random((n, n_items)) < share).astype(int)
    threshold = max(1, n // 6)
    expected = tried(counts, threshold, 1)
    for mine, wanted in zip((frequent, closed, maximal), expected, strict=True):
        assert by_copies(mine(held_by(counts, threshold)), n_items) == wanted


@pytest.mark.parametrize("seed", range(8))
def test_copies_of_an_item(seed: int):
    draw = np.random.default_rng(seed)
    counts = draw.poisson(1.2, (40, 4))
    for copies, threshold in ((2, 3), (3, 6)):
        expected = tried(counts, threshold, copies)
        for mine, wanted in zip((frequent, closed, maximal), expected, strict=True):
            assert by_copies(mine(held_by(counts, threshold, copies)), 4) == wanted


@pytest.mark.parametrize("mine", [frequent, closed, maximal])
def test_parts_of_the_search_are_all_of_it(mine: Callable[..., list[Itemset]]):
    counts = (np.random.default_rng(5).random((50, 10)) < 0.5).astype(int)
    held = held_by(counts, 8)
    parts = [mine(held, starts=range(i, len(held.items), 3)) for i in range(3)]
    assert ordered(itertools.chain(*parts)) == mine(held)


def test_copies_past_what_a_byte_counts():
    """Counts in the smallest integers that hold them, as a census has them."""
    held = holdings(np.arange(2), np.zeros(2, int), np.array([200, 3], np.uint8), threshold=1, multiplicity=300)
    assert held.supports.tolist() == [2] * 3 + [1] * 197


def test_support_falls_as_an_itemset_grows():
    counts = (np.random.default_rng(6).random((60, 8)) < 0.6).astype(int)
    supports = {one.items: one.support for one in frequent(held_by(counts, 2))}
    for items, support in supports.items():
        assert all(supports[(*items[:i], *items[i + 1 :])] >= support for i in range(len(items)) if len(items) > 1)


def test_closed_itemsets_of_forty_items_that_go_together():
    """2**40 itemsets are frequent, and one is closed: its search ends, the other's ends at the cap."""
    together = held_by(np.ones((5, 40), dtype=int), 5)
    assert closed(together) == maximal(together) == [Itemset(5, tuple(range(40)))]
    with pytest.raises(ParamsError, match="more than 1000 itemsets or items reach the support 5; raise the threshold"):
        frequent(together, cap=1000)


def test_the_cap_lets_exactly_so_many_through():
    together = held_by(np.ones((2, 4), dtype=int), 2)
    assert len(frequent(together, cap=15)) == 15
    with pytest.raises(ParamsError, match="more than 14 itemsets"):
        frequent(together, cap=14)
    with pytest.raises(ParamsError, match="more than 3 itemsets or items"):
        holdings(np.zeros(4, int), np.arange(4), np.ones(4, int), threshold=1, cap=3)


def test_nothing_frequent_and_bad_thresholds():
    nothing = held_by(np.eye(3, dtype=int), 2)
    assert frequent(nothing) == closed(nothing) == maximal(nothing) == []
    with pytest.raises(ParamsError, match="threshold and multiplicity are 1 or more"):
        held_by(np.eye(3, dtype=int), 0)
