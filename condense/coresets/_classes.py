"""The candidates of each class, checked, and how many of each to choose: what every coreset begins with."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from condense.coresets import Candidates
from datagen.contracts.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def by_class(candidates: Candidates, sizes: Sequence[int]) -> "Iterator[tuple[int, NDArray[np.int64], int]]":
    """Each class that rows are wanted of: its label, the positions of its rows in order, and how many to choose.

    Everything is checked before the first is given.

    Raises:
        DataError: see `CoresetMethod`.
    """
    import numpy as np

    features, labels = candidates.features, candidates.labels
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataError(
            f"candidates: features have shape {features.shape}, labels {labels.shape}; give a row of features a label"
        )
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise DataError(f"candidates: features of row {row} hold NaN or infinity; leave the row out")
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(sizes)):
        raise DataError(f"candidates: labels run from {labels.min()} to {labels.max()}; there are {len(sizes)} sizes")
    counts = np.bincount(labels, minlength=len(sizes)).tolist()
    for label, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        if not 0 <= size <= count:
            raise DataError(f"candidates: class {label} has {count} rows, {size} are wanted; ask for 0 to {count}")
    wanted = [(label, size) for label, size in enumerate(sizes) if size]
    return ((label, np.flatnonzero(labels == label), size) for label, size in wanted)


def joined(chosen: "Iterator[NDArray[np.int64]]") -> "NDArray[np.int64]":
    """The positions of all classes, one after another; none of no class."""
    import numpy as np

    return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])


def class_sizes(n_rows: int, counts: Sequence[int]) -> list[int]:
    """As many of each class, the remainder to the first; what a class hasn't got goes to the others.

    Args:
        n_rows: to choose in all; at most all are.
        counts: rows of each class.
    """
    sizes = [0] * len(counts)
    left = min(n_rows, sum(counts))
    while left:
        unfilled = [c for c, count in enumerate(counts) if sizes[c] < count]
        share = min(left // len(unfilled), *(counts[c] - sizes[c] for c in unfilled))
        for c in unfilled if share else unfilled[:left]:
            sizes[c] += max(share, 1)
            left -= max(share, 1)
    return sizes
