"""Oracles: scikit-learn's F1, every threshold tried in a loop, bins and resamples by hand."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from trainers.bootstrap import bootstrap, paired_bootstrap
from trainers.class_figures import (
    THRESHOLDS,
    best_threshold,
    best_thresholds,
    calibration_error,
    class_f1,
    figures,
    macro_f1_difference,
    macro_f1_interval,
    sweep,
)

sklearn: Any = metrics  # its types leave out what its functions take and give


def example(n: int = 200, n_classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know something of the truth; the last class never holds."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n, n_classes)) < np.linspace(0.5, 0.0, n_classes)
    probabilities = np.clip(0.4 * truth + 0.6 * generator.random((n, n_classes)), 0, 1)
    return probabilities, truth


def test_f1_is_that_of_scikit_learn():
    """By class, macro and micro, with a class that never holds and is predicted, and one that is neither."""
    probabilities, truth = example()
    probabilities = np.column_stack([probabilities, np.zeros(len(truth))])
    truth = np.column_stack([truth, np.zeros(len(truth), bool)])
    thresholds = np.array([0.3, 0.4, 0.5, 0.6, 0.2, 0.5])
    predicted = probabilities >= thresholds
    found = figures(list("abcdef"), probabilities, truth, thresholds, n_resamples=10, seed=0)
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(truth, predicted, zero_division=0.0)
    for at, row in enumerate(found["by_class"].values()):
        expected = (precision[at], recall[at], f1[at])
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(expected, abs=5e-5)
        assert (row["support"], row["threshold"]) == (support[at], thresholds[at])
    assert class_f1(predicted, truth) == pytest.approx(f1)
    for average in ("macro", "micro"):
        theirs = sklearn.f1_score(truth, predicted, average=average, zero_division=0.0)
        assert found[f"{average}_f1"] == pytest.approx(theirs, abs=5e-5)


def test_the_threshold_is_the_best_of_all_that_are_tried():
    """0.05 to 0.95 by 0.01, macro-F1 by scikit-learn; and by class, where one that never holds takes that of all."""
    probabilities, truth = example()
    grid = [round(0.05 + 0.01 * i, 2) for i in range(91)]
    assert THRESHOLDS.tolist() == grid
    swept = sweep(probabilities, truth)
    macro = [sklearn.f1_score(truth, probabilities >= t, average="macro", zero_division=0.0) for t in grid]
    assert best_threshold(swept) == grid[int(np.argmax(macro))]
    own = best_thresholds(swept)
    for at in range(4):
        tried = [sklearn.f1_score(truth[:, at], probabilities[:, at] >= t, zero_division=0.0) for t in grid]
        assert own[at] == grid[int(np.argmax(tried))]
    assert own[4] == best_threshold(swept)


def test_calibration_error_closed_form():
    """Of 0.15 a tenth holds, of 0.95 all: (10 * 0.05 + 10 * 0.05) / 20; 1.0 is in the last bin."""
    probabilities = np.array([0.15] * 10 + [0.95] * 10)[:, None]
    truth = np.array([True] + [False] * 9 + [True] * 10)[:, None]
    assert calibration_error(probabilities, truth) == pytest.approx(0.05)
    assert calibration_error(np.ones((3, 2)), np.ones((3, 2), bool)) == 0


def test_calibration_error_is_that_of_a_loop():
    probabilities, truth = example(500)
    total = 0.0
    for b in range(15):
        inside = (probabilities >= b / 15) & ((probabilities < (b + 1) / 15) | (b == 14))
        if inside.any():
            total += inside.sum() / probabilities.size * abs(probabilities[inside].mean() - truth[inside].mean())
    assert calibration_error(probabilities, truth) == pytest.approx(total)


def test_the_interval_is_that_of_rows_drawn_one_by_one():
    """Macro-F1 of 2,000 resamples by scikit-learn's definition; both ends within sampling error of each other."""
    probabilities, truth = example(100, 3)
    predicted = probabilities >= 0.5
    ours = macro_f1_interval(predicted, truth, n_resamples=2000, seed=0)
    generator = np.random.default_rng(7)
    values: list[float] = []
    for _ in range(2000):
        rows = generator.integers(100, size=100)
        values.append(float(class_f1(predicted[rows], truth[rows]).mean()))
    low, high = np.quantile(values, [0.025, 0.975])
    assert ours.mean == pytest.approx(float(class_f1(predicted, truth).mean()))
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.01)
    assert ours.low < ours.mean < ours.high


def test_a_mean_by_the_general_bootstrap_is_that_by_the_paired_one():
    """The same distribution, other draws: ends within two standard errors of a quantile."""
    after = np.random.default_rng(1).normal(0.3, 1, 400)
    paired = paired_bootstrap(np.zeros(400).tolist(), after.tolist(), n_resamples=4000)
    general = bootstrap(lambda weights: weights @ after / 400, 400, 4000)
    assert general.mean == pytest.approx(paired.mean)
    assert (general.low, general.high) == pytest.approx((paired.low, paired.high), abs=0.01)
    with pytest.raises(ValueError, match="needs a row"):
        bootstrap(lambda weights: weights.sum(axis=1), 0)


def test_a_model_against_itself_differs_by_nothing_and_against_a_better_one_by_its_gain():
    probabilities, truth = example()
    predicted = probabilities >= 0.5
    same = macro_f1_difference(predicted, predicted, truth, n_resamples=50, seed=0)
    assert same == (0, 0, 0)
    better = macro_f1_difference(predicted, truth, truth, n_resamples=200, seed=0)
    gain = class_f1(truth, truth).mean() - class_f1(predicted, truth).mean()
    assert better.mean == pytest.approx(gain) and 0 < better.low < better.mean < better.high < 1
    assert not math.isnan(better.high)
