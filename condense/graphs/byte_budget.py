"""The thresholds of frequent itemsets that a number of bytes pays for.

Source: none; Mirage, arXiv:2310.09486, section 4, sets thresholds by hand.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

from condense.graphs.itemsets import Itemset, TooMany
from datagen.contracts.errors import ParamsError


def thresholds_within(
    mine: Sequence[Callable[[int], list[Itemset]]],
    tops: Sequence[int],
    names: Sequence[str],
    nodes_of: Callable[[Itemset], int],
    size_of: Callable[[Sequence[Sequence[Itemset]]], int],
    budget: int,
) -> list[int]:
    """The thresholds, one a class, at which the itemsets of all classes together take at most `budget` bytes.

    What is searched:

    1. For each class by itself, by bisection from 1 to its largest support, the least threshold at which its itemsets
       alone take at most the budget. The supports of these itemsets are the thresholds that the class may get.
    2. Every class begins at its largest. Then, again and again, the class whose itemsets have the fewest nodes (of
       equal ones the first) goes down to its next support, until the set would pass the budget.
    3. The classes, in the same order, then go down one after the other as far as the set stays within the budget.

    So classes get about as many nodes each, all itemsets of a support come in together, and no class alone could go
    further down. Bytes must not fall as thresholds fall: true of all and of closed itemsets, not of maximal ones.

    Args:
        mine: for each class, the itemsets at a threshold; TooMany says that there are more than the budget pays for.
        tops: for each class, the largest support of an item.
        names: of the classes, for messages.
        nodes_of: an itemset's nodes.
        size_of: bytes of a set, a sequence of itemsets a class.
        budget: in bytes.

    Raises:
        ParamsError: not even the itemsets of the largest supports fit; says what they take.
    """
    ladders: list[list[Itemset]] = []
    for label, (miner, top) in enumerate(zip(mine, tops, strict=True)):
        before, behind = [[]] * label, [[]] * (len(mine) - label - 1)
        try:
            ladders.append(_lowest(miner, top, lambda one, b=before, e=behind: size_of([*b, one, *e]) <= budget))
        except TooMany:
            raise ParamsError(
                f"byte_budget: too small for the itemsets of class {names[label]!r} of the largest support, {top}, "
                f"which are more than bytes (got {budget}); raise byte_budget, or set itemsets=closed"
            ) from None
    steps = [sorted({one.support for one in found}, reverse=True) for found in ladders]

    def taken(at: Sequence[int]) -> list[list[Itemset]]:
        chosen = zip(ladders, steps, at, strict=True)
        return [[one for one in found if one.support >= step[i]] for found, step, i in chosen]

    def fits(at: Sequence[int]) -> bool:
        return size_of(taken(at)) <= budget

    path = [[0] * len(mine)]
    if not fits(path[0]):
        said = ", ".join(str(step[0]) for step in steps)
        raise ParamsError(
            f"byte_budget: the itemsets of the largest supports ({said}) take {size_of(taken(path[0]))} bytes "
            f"(got {budget}); raise it, or take fewer layers"
        )
    nodes: list[list[int]] = []
    for found, step in zip(ladders, steps, strict=True):
        of_support = dict.fromkeys(step, 0)
        for one in found:
            of_support[one.support] += nodes_of(one)
        nodes.append(list(accumulate(of_support.values())))

    def fewest(at: Sequence[int]) -> list[int]:
        going = [label for label in range(len(mine)) if at[label] + 1 < len(steps[label])]
        return sorted(going, key=lambda label: nodes[label][at[label]])

    while going := fewest(path[-1]):
        path.append(_down(path[-1], going[0], 1))
    at = path[_last(lambda i: fits(path[i]), len(path))]
    for label in fewest(at):
        rest = partial(_down, at, label)
        at = rest(_last(lambda n, rest=rest: fits(rest(n)), len(steps[label]) - at[label]))
    return [step[i] for step, i in zip(steps, at, strict=True)]


def _lowest(mine: Callable[[int], list[Itemset]], top: int, fits: Callable[[list[Itemset]], bool]) -> list[Itemset]:
    """The itemsets at the least threshold at which they fit; those at the top, whether they do or not."""
    low, high, found = 1, top, mine(top)
    while low < high:
        middle = (low + high) // 2
        try:
            tried = mine(middle)
        except TooMany:
            low = middle + 1
            continue
        if fits(tried):
            high, found = middle, tried
        else:
            low = middle + 1
    return found


def _last(holds: Callable[[int], bool], n: int) -> int:
    """The last of 0 ... n - 1 for which it holds, where it holds for 0 and for all before the last."""
    low, high = 0, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _down(at: Sequence[int], label: int, n: int) -> list[int]:
    return [*at[:label], at[label] + n, *at[label + 1 :]]
