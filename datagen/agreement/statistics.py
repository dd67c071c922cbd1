"""Agreement of judges who each give a text any number of labels.

Two judges: for each label Cohen's kappa, and precision and recall of the first by the second. Cohen. A Coefficient of
Agreement for Nominal Scales. Educational and Psychological Measurement 20(1), 1960.

Two judges or more, some of whom skip rows: Krippendorff's alpha, 1 - D_o / D_e, of all their pairs. Krippendorff.
Computing Krippendorff's Alpha-Reliability. 2011. Over whole sets of labels its distance is MASI, 1 - J M with
Jaccard's J, and M = 1, 2/3, 1/3 or 0 as the sets are equal, one in the other, overlapping or disjoint: Passonneau.
Measuring Agreement on Set-valued Items (MASI) for Semantic and Pragmatic Annotation. LREC 2006. For one label the
values are whether it was given.

Intervals are percentiles over rows drawn with replacement: Efron. Bootstrap Methods: Another Look at the Jackknife.
The Annals of Statistics 7(1), 1979. Every statistic is a function of sums over rows, so a resample is a vector of how
often each row was drawn, and all of them are one product of matrices.

Axes: B resamples, the first of them the rows as they are; N rows; L labels; V distinct values.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.agreement.labels import LabelSet

Array = NDArray[np.float64]
V = TypeVar("V", bound=Hashable)

LEVEL = 0.95  # of the intervals
_MIN_DEFINED = 0.5  # share of the resamples in which a figure must be defined for its interval to mean something


def masi_distance(a: LabelSet, b: LabelSet) -> float:
    """1 - J M in [0, 1]; 0 between two empty sets, 1 between an empty one and another."""
    if a == b:
        return 0.0
    common = len(a & b)
    monotonicity = 2 / 3 if a <= b or b <= a else 1 / 3
    return 1 - monotonicity * common / len(a | b)


def nominal_distance(a: Hashable, b: Hashable) -> float:
    """0 between equal values, 1 between others."""
    return float(a != b)


def compare_two(
    first: Sequence[LabelSet],
    second: Sequence[LabelSet],
    labels: Sequence[str],
    *,
    names: tuple[str, str] = ("first", "second"),
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """What two judges of the same rows have in common.

    Args:
        first: whose precision and recall are told; labels that are not in `labels` do not count.
        second: in the same order.
        labels: at least one.
        names: under which each label's counts are given.
        n_resamples: for the intervals.
        seed: of the draws.

    Returns:
        `rows`; `exact`, the share of rows with equal sets; `alpha` by MASI; `kappa`, the mean over labels that vary;
        and `labels`, for each of them its counts, `precision`, `recall` and `kappa`. A figure is {value, low, high},
        None where it is not defined, as kappa is of a label that neither gave, or both everywhere.

    Raises:
        ValueError: no row, no label, or sequences of different lengths.
    """
    if len(first) != len(second) or not first or not labels:
        raise ValueError(f"{len(first)} and {len(second)} rows, {len(labels)} labels; give as many rows, one or more")
    known = frozenset(labels)
    first, second = [one & known for one in first], [one & known for one in second]
    drawn = _draws(len(first), n_resamples, seed)
    in_first, in_second = _indicators(first, labels), _indicators(second, labels)
    n_first, n_second, n_both = drawn @ in_first, drawn @ in_second, drawn @ (in_first * in_second)  # each (B, L)
    kappa = _kappa(n_first, n_second, n_both, len(first))
    precision, recall = _ratio(n_both, n_first), _ratio(n_both, n_second)
    equal = np.array([a == b for a, b in zip(first, second, strict=True)], dtype=np.float64)
    return {
        "rows": len(first),
        "exact": _figure(drawn @ equal / len(first)),
        "alpha": _figure(_alpha([[a, b] for a, b in zip(first, second, strict=True)], masi_distance, drawn)),
        "kappa": _figure(_mean_of_defined(kappa)),
        "labels": {
            label: {
                names[0]: int(n_first[0, i]),
                names[1]: int(n_second[0, i]),
                "both": int(n_both[0, i]),
                "precision": _figure(precision[:, i]),
                "recall": _figure(recall[:, i]),
                "kappa": _figure(kappa[:, i]),
            }
            for i, label in enumerate(labels)
        },
    }


def compare_all(
    rows: Sequence[Sequence[LabelSet]], labels: Sequence[str], *, n_resamples: int, seed: int
) -> dict[str, Any]:
    """What all judges of some rows have in common; `rows` has for each row the sets of those who judged it.

    Returns:
        `rows` that two or more judged, `alpha` by MASI, and `labels`, for each of them the `alpha` of whether it was
        given. An alpha is None where no value differs anywhere, or no row has two judges.
    """
    shared = [row for row in rows if len(row) > 1]
    if not shared:
        return {"rows": 0, "alpha": None, "labels": dict.fromkeys(labels)}
    drawn = _draws(len(shared), n_resamples, seed)
    of_labels = {
        label: _figure(_alpha([[label in one for one in row] for row in shared], nominal_distance, drawn))
        for label in labels
    }
    return {"rows": len(shared), "alpha": _figure(_alpha(shared, masi_distance, drawn)), "labels": of_labels}


def krippendorff_alpha(rows: Sequence[Sequence[V]], distance: Callable[[V, V], float]) -> float | None:
    """Krippendorff's alpha of the values that each row was given; rows of fewer than two do not count.

    `distance` is 0 between equal values, symmetric and not negative; of interval data it is the squared difference.
    """
    shared = [row for row in rows if len(row) > 1]
    if not shared:
        return None
    alpha = float(_alpha(shared, distance, np.ones((1, len(shared))))[0])
    return None if np.isnan(alpha) else alpha


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Cohen's kappa of two judges who each say yes or no to the same rows, None where both always say the same one."""
    a, b = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    kappa = float(_kappa(a.sum(), b.sum(), (a * b).sum(), len(first)))
    return None if np.isnan(kappa) else kappa


def majority(sets: Sequence[LabelSet]) -> LabelSet:
    """The labels that more than half of the judges gave."""
    counts: dict[str, int] = {}
    for label in (label for one in sets for label in one):
        counts[label] = counts.get(label, 0) + 1
    return frozenset(label for label, n in counts.items() if 2 * n > len(sets))


def _draws(n_rows: int, n_resamples: int, seed: int) -> Array:
    """How often each row is drawn: (1 + n_resamples, N), the first row all ones."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=n_resamples)
    return np.concatenate([np.ones((1, n_rows)), drawn.astype(np.float64)])


def _indicators(sets: Sequence[LabelSet], labels: Sequence[str]) -> Array:
    return np.array([[label in one for label in labels] for one in sets], dtype=np.float64)


def _kappa(n_first: Any, n_second: Any, n_both: Any, n: int) -> Any:
    """(p_o - p_e) / (1 - p_e) by counts of yes, in one expression that exact zeros survive."""
    observed = n * (n - n_first - n_second + 2 * n_both)
    expected = n_first * n_second + (n - n_first) * (n - n_second)
    return _ratio(observed - expected, n * n - expected)


def _alpha(rows: Sequence[Sequence[V]], distance: Callable[[V, V], float], drawn: Array) -> Array:
    """Alpha in each resample, (B,): 1 - (n - 1) sum_u w_u D_u / sum_ck n_c n_k d(c, k), every row with two or more."""
    places: dict[V, int] = {}
    for value in (value for row in rows for value in row):
        places.setdefault(value, len(places))
    values = list(places)
    between = np.zeros((len(values), len(values)))
    for i, j in combinations(range(len(values)), 2):
        between[i, j] = between[j, i] = distance(values[i], values[j])
    counts = np.zeros((len(rows), len(values)))
    for i, row in enumerate(rows):
        for value in row:
            counts[i, places[value]] += 1
    within = ((counts @ between) * counts).sum(axis=1) / (counts.sum(axis=1) - 1)  # D_u, (N,)
    totals = drawn @ counts  # (B, V)
    expected = ((totals @ between) * totals).sum(axis=1)
    return 1 - _ratio((totals.sum(axis=1) - 1) * (drawn @ within), expected)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)


def _mean_of_defined(figures: Array) -> Array:
    """The mean over the last axis of what is defined there."""
    defined = ~np.isnan(figures)
    return _ratio(np.where(defined, figures, 0).sum(axis=-1), defined.sum(axis=-1))


def _figure(resampled: Array) -> Mapping[str, float | None] | None:
    """The figure of the rows as they are, which come first, and its interval over the others."""
    value, others = resampled[0], resampled[1:][~np.isnan(resampled[1:])]
    if np.isnan(value):
        return None
    if len(others) < _MIN_DEFINED * (len(resampled) - 1) or not len(others):
        return {"value": round(float(value), 4), "low": None, "high": None}
    low, high = np.quantile(others, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
