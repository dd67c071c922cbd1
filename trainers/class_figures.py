"""Figures of classifiers whose classes hold each for itself: F1, thresholds, calibration.

A class is predicted where its probability is at least its threshold. F1 of a class is 2 tp / (2 tp + fp + fn), 0 where
it neither holds nor is predicted, and macro-F1 the plain mean over classes: both as scikit-learn computes them with
`zero_division=0`.

The threshold is the one on a grid whose macro-F1 on validation rows is greatest: Emo Pillars, arXiv:2504.16856.
Calibration error: Guo et al. 2017, arXiv:1706.04599, equation 3, over all pairs of a row and a class.

Axes: N rows, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.bootstrap import Interval, bootstrap

THRESHOLDS = np.arange(5, 96) / 100
N_BINS = 15
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def class_f1(predicted: Bools, truth: Bools) -> Floats:
    """(C,) F1 of each class, of (N, C) predictions and truth."""
    return _f1((predicted & truth).sum(axis=0), predicted.sum(axis=0), truth.sum(axis=0))


def sweep(probabilities: Floats, truth: Bools) -> Floats:
    """(len(THRESHOLDS), C) F1 of each class at each threshold, of (N, C) probabilities and truth."""
    return np.stack([class_f1(probabilities >= threshold, truth) for threshold in THRESHOLDS])


def best_threshold(f1: Floats) -> float:
    """The threshold with the greatest macro-F1 in a `sweep`; of equal ones the lowest."""
    return float(THRESHOLDS[f1.mean(axis=1).argmax()])


def best_thresholds(f1: Floats) -> Floats:
    """(C,) each class's own; `best_threshold` where a class has F1 0 at all of them, as one without rows has."""
    own = THRESHOLDS[f1.argmax(axis=0)]
    return np.where(f1.max(axis=0) > 0, own, best_threshold(f1))


def calibration_error(probabilities: Floats, truth: Bools) -> float:
    """Mean distance, in bins of equal width, of mean probability from the share that holds; a bin weighs its pairs."""
    values, holds = probabilities.ravel(), truth.ravel().astype(np.float64)
    bins = np.minimum((values * N_BINS).astype(np.int64), N_BINS - 1)
    sums = (np.bincount(bins, weights=one, minlength=N_BINS) for one in (values, holds))
    return float(np.abs(np.subtract(*sums)).sum() / len(values))


def macro_f1_interval(predicted: Bools, truth: Bools, *, n_resamples: int, seed: int) -> Interval:
    """Macro-F1 and its interval over resampled rows."""
    return bootstrap(lambda weights: _macro_f1(weights, predicted, truth), len(truth), n_resamples, seed=seed)


def macro_f1_difference(before: Bools, after: Bools, truth: Bools, *, n_resamples: int, seed: int) -> Interval:
    """Macro-F1 of `after` less that of `before` on the same rows, which are resampled together."""

    def difference(weights: Floats) -> Floats:
        return _macro_f1(weights, after, truth) - _macro_f1(weights, before, truth)

    return bootstrap(difference, len(truth), n_resamples, seed=seed)


def figures(
    labels: list[str], probabilities: Floats, truth: Bools, thresholds: Floats, *, n_resamples: int, seed: int
) -> dict[str, Any]:
    """What metrics say of (N, C) probabilities, with N above 0, at (C,) thresholds; rounded to 4 digits."""
    predicted = probabilities >= thresholds
    hits, n_predicted, n_true = (predicted & truth).sum(axis=0), predicted.sum(axis=0), truth.sum(axis=0)
    interval = macro_f1_interval(predicted, truth, n_resamples=n_resamples, seed=seed)
    by_class = {
        "precision": hits / np.maximum(n_predicted, 1),
        "recall": hits / np.maximum(n_true, 1),
        "f1": class_f1(predicted, truth),
        "mean_probability": probabilities.mean(axis=0),
        "threshold": thresholds,
    }
    return {
        "n_rows": len(truth),
        "macro_f1": round(interval.mean, 4),
        "macro_f1_interval": {"low": round(interval.low, 4), "high": round(interval.high, 4)},
        "micro_f1": round(float(_f1(hits.sum(), n_predicted.sum(), n_true.sum())), 4),
        "calibration_error": round(calibration_error(probabilities, truth), 4),
        "by_class": {
            label: {"support": int(n_true[at]), "n_predicted": int(n_predicted[at])}
            | {name: round(float(values[at]), 4) for name, values in by_class.items()}
            for at, label in enumerate(labels)
        },
    }


def _macro_f1(weights: Floats, predicted: Bools, truth: Bools) -> Floats:
    """(R,) macro-F1 where row i counts `weights[r, i]` times."""
    counts = (weights @ one.astype(np.float64) for one in (predicted & truth, predicted, truth))
    return _f1(*counts).mean(axis=1)


def _f1(hits: Any, n_predicted: Any, n_true: Any) -> Floats:
    return 2 * hits / np.maximum(n_predicted + n_true, 1)
