"""Oracles: laws that are known, their best mix by brute force, and least squares refitted without each run."""

import itertools
import logging
import math

import numpy as np
import pytest
from pytest import approx

from datagen.contracts.errors import DataError, ParamsError
from datagen.mixture import ProxyRun, Seen
from datagen.mixture._law import fit
from datagen.mixture.regression_mix import Config, bundle, design, regression_mix

NAMES = ["law", "code", "prose"]
N_TOKENS = np.array([100.0, 300.0, 600.0])
SLOPES = np.array([[-1.2, 0.1, 0.3], [0.3, -0.9, 0.2], [0.0, 0.2, -0.7]])  # of domain i on the loss of domain j


def losses(weights: np.ndarray) -> np.ndarray:
    return np.exp(1.0 + weights @ SLOPES)


def seen(mixes: np.ndarray, *, noise: float = 0.0, names: list[str] = NAMES) -> Seen:
    errors = np.random.default_rng(1).normal(scale=noise, size=mixes.shape) if noise else 0
    runs = [ProxyRun(weights=w, losses=y) for w, y in zip(mixes, losses(mixes) * np.exp(errors), strict=True)]
    return Seen(names=names, n_tokens=N_TOKENS, runs=runs)


def test_the_best_mix_under_a_known_law():
    """Ten exact runs of the law itself; the least mean loss over a grid of 0.01, its weights to 0.03."""
    config = Config(n_candidates=20_000, n_best=20)
    found = regression_mix(config, None, seen(design(config, NAMES, N_TOKENS, 10)))
    grid = np.array([(i, j, 100 - i - j) for i, j in itertools.product(range(101), repeat=2) if i + j <= 100]) / 100
    best = losses(grid).mean(1)
    assert found.weights == approx(tuple(grid[best.argmin()]), abs=0.03)
    assert found.memory["predicted"] == approx([best.min()], rel=1e-3)
    assert found.memory["explained"][0] > 0.999
    assert sum(found.weights) == approx(1) and regression_mix(config, found, seen(grid[:3])) == found


def test_targets_alone_count():
    """With one target, the law's own domain has the steepest slope, so nearly all of the weight."""
    config = Config(targets=("code",), n_candidates=20_000, n_best=20)
    assert regression_mix(config, None, seen(design(config, NAMES, N_TOKENS, 10))).weights[1] > 0.95


def test_the_law_leaves_each_run_out():
    """Error and penalty against a refit without each run, penalty by penalty."""
    generator = np.random.default_rng(0)
    weights = generator.dirichlet(np.ones(3), size=9)
    logs = np.log(losses(weights)) + generator.normal(scale=0.2, size=(9, 3))
    found = fit(weights, np.exp(logs))
    errors = {}
    for penalty in [10.0**k for k in range(-6, 3)]:
        total = 0.0
        for r in range(9):
            rest = np.arange(9) != r
            centre, level = weights[rest].mean(0), logs[rest].mean(0)
            x = weights[rest] - centre
            slopes = np.linalg.solve(x.T @ x + penalty * np.eye(3), x.T @ (logs[rest] - level))
            total += ((logs[r] - level - (weights[r] - centre) @ slopes) ** 2).sum()
        errors[penalty] = total
    best = min(errors, key=lambda penalty: errors[penalty])
    assert found.penalty == best
    means = sum(((logs[r] - logs[np.arange(9) != r].mean(0)) ** 2).sum() for r in range(9))
    assert found.explained == approx(1 - errors[best] / means, abs=1e-6)


def test_runs_that_say_nothing_are_warned_of(caplog: pytest.LogCaptureFixture):
    """Losses without relation to the mixes."""
    mixes = design(Config(), NAMES, N_TOKENS, 8)
    noise = np.exp(np.random.default_rng(3).normal(size=(8, 3)))
    runs = [ProxyRun(weights=w, losses=y) for w, y in zip(mixes, noise, strict=True)]
    with caplog.at_level(logging.WARNING):
        found = regression_mix(Config(n_candidates=100), None, Seen(names=NAMES, n_tokens=N_TOKENS, runs=runs))
    assert found.memory["explained"][0] <= 0 and "no better than their mean" in caplog.text


def test_mixes_of_the_design():
    """The first is the tokens' shares; the mean of many comes near them, and some are nearly one domain alone."""
    mixes = design(Config(), NAMES, N_TOKENS, 4001)
    assert mixes.shape == (4001, 3) and mixes.sum(1) == approx(np.ones(4001)) and (mixes >= 0).all()
    assert mixes[0] == approx([0.1, 0.3, 0.6])
    assert mixes[1:].mean(0) == approx([0.1, 0.3, 0.6], abs=0.02)  # a Dirichlet's mean is its shares
    assert (mixes.max(1) > 0.99).mean() > 0.2


def test_order_of_the_domains_does_not_matter():
    order = [2, 0, 1]
    mixes = design(Config(), NAMES, N_TOKENS, 8)
    moved = design(Config(), [NAMES[i] for i in order], N_TOKENS[order], 8)
    assert moved == approx(mixes[:, order])
    runs = [ProxyRun(weights=w[order], losses=losses(w)[order]) for w in mixes]
    other = Seen(names=[NAMES[i] for i in order], n_tokens=N_TOKENS[order], runs=runs)
    config = Config(n_candidates=1000, n_best=10)
    expected = np.array(regression_mix(config, None, seen(mixes)).weights)[order]
    assert regression_mix(config, None, other).weights == approx(tuple(expected), abs=1e-6)


def test_known_ratios_are_kept_when_a_domain_is_added():
    """Law and code stand 3 : 1 in every proxy run and in the result; the best of such mixes by a scan of one number."""
    config = Config(known_mix={"law": 3, "code": 1}, n_candidates=20_000, n_best=20)
    assert bundle(NAMES, config.known_mix).tolist() == [[1, 1, 0], [0, 0, 1]]
    mixes = design(config, NAMES, N_TOKENS, 6)
    assert mixes[0] == approx([0.3, 0.1, 0.6]) and mixes[:, 0] == approx(3 * mixes[:, 1])
    found = regression_mix(config, None, seen(mixes)).weights
    share = np.linspace(0, 1, 1001)[:, None]
    scan = share * [0.75, 0.25, 0] + (1 - share) * [0, 0, 1]
    assert found == approx(tuple(scan[losses(scan).mean(1).argmin()]), abs=0.03)
    with pytest.raises(DataError, match="ratios within known_mix differ"):
        regression_mix(config, None, seen(design(Config(), NAMES, N_TOKENS, 6)))
    with pytest.raises(
        DataError, match="ratios within known_mix differ"
    ):  # one in all runs, and another than asked for
        regression_mix(Config(known_mix={"law": 1, "code": 9}), None, seen(mixes))


@pytest.mark.parametrize(
    ("config", "weights", "values", "error", "message"),
    [
        ({}, [[0.5, 0.5, 0]] * 2, 1.0, DataError, "2 proxy runs carry no law"),
        ({}, [[0.5, 0.5]] * 3, 1.0, DataError, "run 0 has weights"),
        ({}, [[0.5, 0.5, 0]] * 3, math.nan, DataError, "run 0 has losses"),
        ({}, [[0.5, 0.5, 0]] * 3, -1.0, DataError, "above 0"),
        ({"targets": ("maths",)}, [[0.5, 0.5, 0]] * 3, 1.0, ParamsError, "targets: no domain 'maths'; there are law"),
        ({"known_mix": {"maths": 1}}, [[0.5, 0.5, 0]] * 3, 1.0, ParamsError, "known_mix: no domain 'maths'"),
        ({"known_mix": {"law": 0}}, [[0.5, 0.5, 0]] * 3, 1.0, ParamsError, "ratios must not be negative, nor all 0"),
        ({}, [[50, 50, 0]] * 3, 1.0, DataError, "need shares that sum to 1"),
        ({}, [[1.5, -0.5, 0]] * 3, 1.0, DataError, "need shares that sum to 1"),
    ],
)
def test_what_carries_no_law_is_refused(
    config: dict[str, object], weights: list[list[float]], values: float, error: type[Exception], message: str
):
    runs = [ProxyRun(weights=np.array(w), losses=np.full(3, values)) for w in weights]
    with pytest.raises(error, match=message):
        regression_mix(Config.model_validate(config), None, Seen(names=NAMES, n_tokens=N_TOKENS, runs=runs))
