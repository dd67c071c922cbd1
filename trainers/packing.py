"""Packing: documents of different lengths side by side in rows of one width, few slots of which stay empty.

Best-fit decreasing: the longest document first, each into the fullest row that has room for it. Johnson et al.
Worst-Case Performance Bounds for Simple One-Dimensional Packing Algorithms. 1974; for language models Ding et al. 2024,
arXiv:2404.10830, who cut documents longer than a row, which here stand alone in one as wide as they are.
The width is ours: the narrowest at which 95 % of the slots hold tokens, as attention costs the square of it.
"""

import bisect
import math
from collections.abc import Sequence

LEAST_USED = 0.95
_WIDER = 1.1  # a width over the one tried before it


def packed(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of documents, by their positions in `lengths`, at the narrowest width that leaves few slots empty.

    Args:
        lengths: of the documents, above 0; not empty.

    Returns:
        A list a row, each document in one. The widest row says how wide all are.
    """
    total, width = sum(lengths), max(lengths)
    while True:
        rows = best_fit(lengths, width)
        widest = max(sum(lengths[i] for i in row) for row in rows)
        if total >= LEAST_USED * widest * len(rows):  # one row of all documents leaves none empty
            return rows
        width = math.ceil(width * _WIDER)


def best_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Documents in rows of at most `width` slots, or alone in one, by best-fit decreasing; positions in `lengths`."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (slots left, row), the fullest first
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect.bisect_left(room, (lengths[i], 0))
        if at < len(room):
            left, row = room.pop(at)
        else:
            left, row = max(width, lengths[i]), len(rows)
            rows.append([])
        rows[row].append(i)
        bisect.insort(room, (left - lengths[i], row))
    return rows
