"""Rows of whole numbers, ranked: equal rows, and only those, have equal numbers, and the order of rows is kept.

Several columns are packed into one number of 64 bits as long as they fit, and a packed number that more columns are to
follow is replaced by its rank. Nothing is hashed.

Source: none; the ranks of prefixes are those of Manber and Myers' suffix arrays (1990).
"""

import numpy as np

from datagen.contracts.graphs import Ints

_ROOM = 2**62


def rank_rows(rows: Ints) -> tuple[Ints, Ints]:
    """The rank of each row among those that differ, in lexicographic order, and for each rank a row that has it.

    Args:
        rows: (N, columns), 0 or more; rows of no column are all equal.

    Returns:
        (N,) int64 ranks from 0 without gaps, and (ranks,) positions.
    """
    columns: list[Ints] = [np.ascontiguousarray(column, dtype=np.int64) for column in rows.T]
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    while len(columns) > 1:
        columns = _packed(columns)
    return _rank(columns[0] if columns else np.zeros(len(rows), np.int64))


def sort_within(owners: Ints, values: Ints, offsets: Ints, span: int) -> Ints:
    """The values of each owner in ascending order, owner after owner.

    Args:
        owners: (N,) of each value.
        values: (N,) in [0, span).
        offsets: (owners + 1,) of each owner's values in the result.
        span: above every value.
    """
    n_owners = len(offsets) - 1
    if n_owners * span >= _ROOM:
        return values[np.lexsort([values, owners])]
    packed = np.sort(owners * span + values)
    return packed - np.repeat(np.arange(n_owners), np.diff(offsets)) * span


def _packed(columns: list[Ints]) -> list[Ints]:
    """Fewer columns of the same order: neighbours packed while they fit, what is packed and does not end it ranked."""
    spans = [int(column.max()) + 1 for column in columns]
    # a column alone must leave room for another one
    for i, span in enumerate(spans):
        if span >= 2**31:
            columns[i], _ = _rank(columns[i])
            spans[i] = int(columns[i].max()) + 1
    groups: list[Ints] = []
    packed, room = columns[0], spans[0]
    for column, span in zip(columns[1:], spans[1:], strict=True):
        if room * span < _ROOM:
            packed, room = packed * span + column, room * span
        else:
            groups.append(packed)
            packed, room = column, span
    groups.append(packed)
    if len(groups) == 1:
        return groups
    return [_rank(one)[0] for one in groups]


def _rank(keys: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(keys)
    ordered = keys[order]
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.cumsum(begins) - 1
    return ranks, order[begins]
