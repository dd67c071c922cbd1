"""The similarity from which two texts are a match, set by texts that the model never saw.

A text that was never seen has a nearest row too. The threshold is the least similarity at which so few of such texts
match that a new one does with a probability of at most `false_match_rate`: with n of them, of which k are as similar or
more, (k + 1) / (n + 1) bounds it, whatever the similarity measures (Bates, Candès, Lei, Romano, Sesia. Testing for
Outliers with Conformal p-values. 2021. arXiv:2104.08279, section 1). So measures that differ in everything are compared
at the same rate of false matches, and fewer than 1 / false_match_rate - 1 texts set no threshold at all.

A match is asked in both directions, and a threshold holds in both: a text that the model wrote must match a row of the
training set no more often by chance than a fresh text does, and a row of the training set be matched by what the model
wrote no more often than a fresh text is. What is fresh must come from where the training set comes from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.errors import DataError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """From which similarity on two texts match, and how often unseen texts do.

    Attributes:
        value: of a match, at least this.
        n_unseen: texts that it was set by.
        in_against: share of them that match a row of the training set at it.
        by_extracted: share of them that what the model wrote matches at it.
        at_most: with 95 % confidence the greater of the two rates among all such texts is no higher (Clopper and
            Pearson 1934; it is the quantile of what lies above an order statistic, too).
    """

    value: float
    n_unseen: int
    in_against: float
    by_extracted: float
    at_most: float


def calibrate(
    in_against: NDArray[np.float32], by_extracted: NDArray[np.float32], false_match_rate: float = 0.01
) -> Threshold:
    """The least threshold at which a fresh text matches with at most this probability, either way.

    Args:
        in_against: (U,) of each unseen text, the similarity with the nearest row of the training set.
        by_extracted: (U,) likewise with the nearest of the extracted texts.
        false_match_rate: in (0, 1).

    Raises:
        DataError: too few unseen texts for this rate, or too many of them stand in one of the two sets as they are.
    """
    n = len(in_against)
    n_above = allowed_matches(n, false_match_rate)
    value = max(_above(in_against, n_above), _above(by_extracted, n_above))
    if value > 1:
        raise DataError(
            f"calibration: more than {n_above} of {n} unseen texts have a neighbour of similarity 1, so no threshold "
            f"has a false-match rate of {false_match_rate:g}; take out what is a template, give other texts, or accept "
            "more"
        )
    shares = [float(np.mean(similarities >= value)) for similarities in (in_against, by_extracted)]
    n_matched = round(max(shares) * n)
    return Threshold(
        value=value, n_unseen=n, in_against=shares[0], by_extracted=shares[1], at_most=upper_bound(n_matched, n)
    )


def allowed_matches(n: int, false_match_rate: float) -> int:
    """How many of `n` unseen texts may match at the threshold of this rate.

    Raises:
        DataError: they are too few to tell such a rate.
    """
    n_allowed = math.floor(false_match_rate * (n + 1) + 1e-9) - 1
    if n_allowed < 0:
        raise DataError(
            f"calibration: {n} unseen texts cannot tell a false-match rate of {false_match_rate:g}; give at least "
            f"{math.ceil(1 / false_match_rate - 1 - 1e-9)}, or accept false_match_rate={1 / (n + 1):.4g}"
        )
    return n_allowed


def shares_from(similarities: NDArray[np.float32], thresholds: Sequence[float]) -> list[float]:
    """At each threshold the share of similarities that are at least it."""
    ordered = np.sort(similarities.astype(np.float64))
    n_reached = len(ordered) - np.searchsorted(ordered, np.asarray(thresholds, np.float64), side="left")
    return [float(one) for one in n_reached / max(1, len(ordered))]


def upper_bound(n_matched: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The highest rate at which `n_matched` or fewer of `n` still come with a probability of 1 - confidence."""
    if n_matched >= n:
        return 1.0
    low, high = n_matched / n, 1.0
    while high - low > 1e-9:
        rate = (low + high) / 2
        low, high = (rate, high) if _at_most(n_matched, n, rate) > 1 - confidence else (low, rate)
    return high


def _above(similarities: NDArray[np.float32], n_above: int) -> float:
    """The least number of 32 bits that at most `n_above` of them reach, ties included."""
    highest = np.sort(similarities.astype(np.float32))[::-1]
    return float(np.nextafter(highest[n_above], np.float32(np.inf)))


def _at_most(n_matched: int, n: int, rate: float) -> float:
    """The probability of `n_matched` or fewer of `n` at this rate."""
    each = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        + i * math.log(rate) + (n - i) * math.log1p(-rate)
        for i in range(n_matched + 1)
    )  # fmt: skip
    return math.fsum(math.exp(one) for one in each)
