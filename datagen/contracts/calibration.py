"""The threshold at which a similarity may be trusted, read off pairs that somebody labelled.

A pair has a similarity, and a label that says whether it is right. Above a threshold t the precision is the share of
right pairs among those with a similarity of at least t, the recall their share of all right pairs (van Rijsbergen.
Information Retrieval. 1979, chapter 7). The threshold is the smallest similarity of a pair at which the precision is
high enough: of all such thresholds it has the highest recall.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from datagen.contracts.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A threshold, what it does on the pairs that it was read off, and how many of them there are."""

    threshold: float
    precision: float
    recall: float
    n_pairs: int
    n_true: int


def calibrate(similarities: Sequence[float], labels: Sequence[bool], target_precision: float) -> Calibration:
    """The smallest positive similarity that, as a threshold, has at least this precision.

    Raises:
        DataError: all labels are the same, so nothing is told apart; or no threshold is that precise.
    """
    n_true = sum(labels)
    if not 0 < n_true < len(labels):
        raise DataError(
            f"pairs: {n_true} of {len(labels)} are labelled true; give right pairs and wrong ones, as similar as those "
            "that occur"
        )
    found: Calibration | None = None
    highest = n_above = n_true_above = 0.0
    ordered = sorted(zip(similarities, labels, strict=True), reverse=True)
    for similarity, group in groupby(ordered, key=lambda pair: pair[0]):
        if similarity <= 0:
            break
        tied = [label for _, label in group]
        n_above += len(tied)
        n_true_above += sum(tied)
        precision = n_true_above / n_above
        highest = max(highest, precision)
        if precision >= target_precision:
            found = Calibration(
                threshold=similarity, precision=precision, recall=n_true_above / n_true, n_pairs=len(labels),
                n_true=n_true,
            )  # fmt: skip
    if found is None:
        raise DataError(
            f"pairs: no threshold has the precision target_precision={target_precision:g} on these {len(labels)}, the "
            f"best has {highest:.4g}; name another embedder, label more pairs, or accept less"
        )
    return found
