"""Texts that are written alike: the nearest row of another set by edit distance and by indel distance, exactly.

The measures that the embedding of arXiv:2510.18554 stands beside, both in [0, 1]:
    edits    1 - d / max(len(a), len(b)), d the least number of characters to insert, delete or replace (Levenshtein
             1966)
    indels   1 - d / (len(a) + len(b)), d the least number of characters to insert or delete; it is twice the longest
             common subsequence's share of both
by rapidfuzz, characters as they stand: case, spaces and punctuation count. Two empty texts are equal.

Every pair is compared, a block at a time, so memory grows with the rows alone; time grows with the product of all
characters on both sides, divided by 64.

Axes: R texts, N others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel, Levenshtein
from rapidfuzz.process import cdist

from datagen.backends.neighbours import Neighbours

BLOCK = 1024  # texts on each side that are compared at once: 4 MB of similarities

edit_similarity: Callable[[str, str], float] = Levenshtein.normalized_similarity
indel_similarity: Callable[[str, str], float] = Indel.normalized_similarity


def nearest_by_edits(texts: Sequence[str], others: Sequence[str], *, workers: int = 1) -> tuple[Neighbours, Neighbours]:
    """Of each of `texts` the most similar of `others`, and of each of `others` the most similar of `texts`.

    Args:
        texts: R of them.
        others: N of them.
        workers: threads.

    Returns:
        Similarities and rows; of equal ones the first text is named, -1 where there is none.
    """
    return _nearest(texts, others, Levenshtein.normalized_similarity, workers)


def nearest_by_indels(
    texts: Sequence[str], others: Sequence[str], *, workers: int = 1
) -> tuple[Neighbours, Neighbours]:
    """`nearest_by_edits` by insertions and deletions alone."""
    return _nearest(texts, others, Indel.normalized_similarity, workers)


def _nearest(
    texts: Sequence[str], others: Sequence[str], similarity: Any, workers: int
) -> tuple[Neighbours, Neighbours]:
    of_texts, of_others = _nobody(len(texts)), _nobody(len(others))
    for start in range(0, len(texts), BLOCK):
        left = texts[start : start + BLOCK]
        for first in range(0, len(others), BLOCK):
            right = others[first : first + BLOCK]
            compared = cdist(left, right, scorer=similarity, dtype=np.float32, workers=workers)
            _improve(compared, of_texts, start, first)
            _improve(compared.T, of_others, first, start)
    return of_texts, of_others


def _improve(compared: NDArray[np.float32], of: Neighbours, start: int, first: int) -> None:
    where = compared.argmax(axis=1)
    top = compared[np.arange(len(compared)), where]
    better = np.flatnonzero(top > of.similarities[start : start + len(top)])
    of.similarities[start + better], of.rows[start + better] = top[better], where[better] + first


def _nobody(n: int) -> Neighbours:
    return Neighbours(np.full(n, -np.inf, np.float32), np.full(n, -1, np.int64))
