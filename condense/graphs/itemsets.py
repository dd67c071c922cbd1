"""Frequent itemsets, exactly: sets of items that at least so many transactions hold, all of them or the closed ones.

A transaction holds an item some number of times. An itemset asks for items, each once or up to `multiplicity` times,
and its support is the number of transactions that hold all it asks for. `frequent` finds every itemset whose support
reaches a threshold, `closed` those to which nothing can be added without loss of support, and `maximal` those to which
nothing can be added without falling below the threshold: each of the second is one of the first, each of the third one
of the second. From the closed ones the support of every frequent itemset can be read, and they are far fewer where
items go together, as trees of neighbouring nodes do.

Source: Zaki. Scalable Algorithms for Association Mining (Eclat). 2000, for `frequent`; Uno et al. LCM ver. 2. 2004,
prefix-preserving closure extension, for `closed` and `maximal`. Departures: transactions are bits of 64-bit words;
an item's copies are items of their own, of which the later are held by fewer. Mirage, arXiv:2310.09486, section 3.3,
mines by FP-growth, without multiplicities.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.errors import ParamsError
from datagen.contracts.graphs import Ints

MAX_ITEMSETS = 100_000
Words = NDArray[np.uint64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class Itemset:
    """A set of items that transactions share.

    Attributes:
        support: how many transactions hold it.
        items: ascending; one that is asked for twice is there twice.
    """

    support: int
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Who holds what, of the items that enough transactions hold.

    Attributes:
        items: (n,) ascending; the second copy of an item follows the first, and so on.
        bits: (n, words) transaction t is bit t % 64 of word t // 64.
        supports: (n,) how many bits are set.
        threshold: what each support reaches.
    """

    items: Ints
    bits: Words
    supports: Ints
    threshold: int


def holdings(
    transactions: Ints, items: Ints, counts: Ints, *, threshold: int, multiplicity: int = 1, cap: int = MAX_ITEMSETS
) -> Holdings:
    """The items that can be part of a frequent itemset, as bits.

    Args:
        transactions: (N,) numbered from 0; each pair of transaction and item is there once.
        items: (N,) of them.
        counts: (N,) how often the transaction holds the item, 1 or more.
        threshold: 1 or more.
        multiplicity: how many copies of an item an itemset may ask for.
        cap: on the number of items, with their copies.

    Raises:
        TooMany: more items reach the threshold, so at least as many itemsets do.
    """
    if threshold < 1 or multiplicity < 1:
        raise ParamsError(f"threshold and multiplicity are 1 or more (got {threshold} and {multiplicity})")
    copies = np.minimum(counts.astype(np.int64), multiplicity)
    rows = np.repeat(np.arange(len(items)), copies)
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
    keys = items[rows].astype(np.int64) * multiplicity + copy
    found, places, supports = np.unique(keys, return_inverse=True, return_counts=True)
    is_frequent = supports >= threshold
    if (n_items := int(is_frequent.sum())) > cap:
        raise too_many(threshold, cap)
    position = np.cumsum(is_frequent) - 1
    kept = is_frequent[places]
    n_words = (int(transactions.max(initial=-1)) + 64) // 64
    bits = np.zeros((n_items, n_words), dtype=np.uint64)
    held_by = transactions[rows[kept]].astype(np.int64)
    flags = np.uint64(1) << (held_by % 64).astype(np.uint64)
    np.bitwise_or.at(bits, (position[places[kept]], held_by // 64), flags)
    return Holdings(
        items=found[is_frequent] // multiplicity, bits=bits, supports=supports[is_frequent], threshold=threshold
    )


def frequent(held: Holdings, *, cap: int = MAX_ITEMSETS, starts: Sequence[int] | None = None) -> list[Itemset]:
    """Every frequent itemset but the empty one, by falling support, then size, then items.

    Args:
        held: who holds what.
        cap: on the number of itemsets.
        starts: rows of `held`; only the itemsets that the search reaches from these, all of them by default. Those of
            several parts of the rows are those of all, each once.

    Raises:
        TooMany: there are more than `cap`; raised before the next one is kept.
    """
    return search("all", held, cap=cap, starts=starts)[0]


def closed(held: Holdings, *, cap: int = MAX_ITEMSETS, starts: Sequence[int] | None = None) -> list[Itemset]:
    """The frequent itemsets that no larger one of the same support holds; otherwise as `frequent`."""
    return search("closed", held, cap=cap, starts=starts)[0]


def maximal(held: Holdings, *, cap: int = MAX_ITEMSETS, starts: Sequence[int] | None = None) -> list[Itemset]:
    """The frequent itemsets that no larger frequent one holds; otherwise as `frequent`.

    The cap is on the closed ones, among which they are found.
    """
    return search("maximal", held, cap=cap, starts=starts)[0]


def search(
    kind: str, held: Holdings, *, cap: int = MAX_ITEMSETS, starts: Sequence[int] | None = None
) -> tuple[list[Itemset], int]:
    """The itemsets of a kind of `MINERS`, and how many the cap counted: of `maximal`, the closed ones."""
    if kind == "all":
        found = ordered(_capped(_eclat(held, starts), held.threshold, cap))
        return found, len(found)
    closures = list(_capped(_closures(held, starts), held.threshold, cap))
    return ordered(one for one, is_maximal in closures if is_maximal or kind == "closed"), len(closures)


def ordered(found: Iterable[Itemset]) -> list[Itemset]:
    """By falling support, then size, then items."""
    return sorted(found, key=lambda one: (-one.support, len(one.items), one.items))


MINERS: dict[str, Callable[..., list[Itemset]]] = {"all": frequent, "closed": closed, "maximal": maximal}


class TooMany(ParamsError):
    """A threshold is too low for what can be kept."""


def too_many(threshold: int, cap: int) -> TooMany:
    """The error of more itemsets than the cap."""
    return TooMany(
        f"more than {cap} itemsets or items reach the support {threshold}; raise the threshold, take itemsets=closed, "
        "or raise max_itemsets"
    )


def _capped(found: Iterator[T], threshold: int, cap: int) -> Iterator[T]:
    for n, one in enumerate(found):
        if n == cap:
            raise too_many(threshold, cap)
        yield one


def _eclat(held: Holdings, starts: Sequence[int] | None) -> Iterator[Itemset]:
    """Depth first: a frame is an itemset with the items of which it is still to be joined by one."""
    # of an item that is held several times, the copy whose turn it is
    copies = np.arange(len(held.items)) - np.searchsorted(held.items, held.items) + 1
    rows = np.arange(len(held.items))
    first = iter(rows.tolist() if starts is None else starts)
    stack: list[tuple[tuple[int, ...], Ints, Words, Ints, Iterator[int]]] = [
        ((), rows, held.bits, held.supports, first)
    ]
    while stack:
        prefix, rows, bits, supports, remaining = stack[-1]
        i = next(remaining, None)
        if i is None:
            stack.pop()
            continue
        item = int(held.items[rows[i]])
        itemset = (*prefix, *[item] * int(copies[rows[i]]))
        yield Itemset(int(supports[i]), itemset)
        later = int(np.searchsorted(held.items[rows], item, side="right"))
        shared = bits[later:] & bits[i]
        counts = _count(shared)
        kept = counts >= held.threshold
        if kept.any():
            n = int(kept.sum())
            stack.append((itemset, rows[later:][kept], shared[kept], counts[kept], iter(range(n))))


def _closures(held: Holdings, starts: Sequence[int] | None) -> Iterator[tuple[Itemset, bool]]:
    """Closed itemsets, each once, and whether no item is frequent with it.

    A frame is a closed itemset with the items that are frequent with it. It is extended by an item behind the one that
    made it, and the closure is a new one if it brings no item before that one. The empty itemset counts as closed, as
    if there were a transaction more that holds nothing.
    """
    rows = np.arange(len(held.items))
    inside = np.zeros(len(rows), dtype=np.bool_)
    stack = [(rows, held.bits, held.supports, inside, iter(rows.tolist() if starts is None else starts))]
    while stack:
        rows, bits, supports, inside, remaining = stack[-1]
        i = next(remaining, None)
        if i is None:
            stack.pop()
            continue
        if inside[i]:
            continue
        shared = bits & bits[i]
        counts = _count(shared)
        closure = counts == supports[i]
        if (closure[:i] != inside[:i]).any():
            continue
        kept = counts >= held.threshold
        yield Itemset(int(supports[i]), tuple(held.items[rows[closure]].tolist())), bool((closure == kept).all())
        behind = int(kept[: i + 1].sum())
        n = int(kept.sum())
        stack.append((rows[kept], shared[kept], counts[kept], closure[kept], iter(range(behind, n))))


def _count(bits: Words) -> Ints:
    return np.bitwise_count(bits).sum(axis=-1, dtype=np.int64)
