import itertools
import math

import numpy as np
import pytest
from pytest import approx

from trainers.bootstrap import paired_bootstrap


def test_three_prompts_against_every_resample():
    """Oracle: all 27 resamples of three prompts, enumerated."""
    before, after = [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]
    means = sorted(sum(draw) / 3 for draw in itertools.product([1.0, 0.0, 0.0], repeat=3))
    found = paired_bootstrap(before, after, n_resamples=200_000, level=0.8)
    assert found.mean == approx(1 / 3)
    assert found.low == approx(np.quantile(means, 0.1))
    assert found.high == approx(np.quantile(means, 0.9))


def test_many_prompts_against_the_normal_interval():
    """Oracle: mean +- 1.96 s / sqrt(n); the ends agree to 4 % of the width."""
    generator = np.random.default_rng(7)
    before = generator.random(1000) < 0.4
    after = generator.random(1000) < 0.6
    differences = after.astype(float) - before
    half = 1.959964 * differences.std() / math.sqrt(1000)
    found = paired_bootstrap(before.astype(float).tolist(), after.astype(float).tolist(), n_resamples=20_000)
    assert found.mean == approx(differences.mean())
    assert found.low == approx(differences.mean() - half, abs=0.08 * half)
    assert found.high == approx(differences.mean() + half, abs=0.08 * half)


def test_pairing_counts():
    """A constant gain on prompts of very different difficulty has an interval of no width."""
    before = [float(i) for i in range(50)]
    assert paired_bootstrap(before, [value + 1 for value in before]) == (1.0, 1.0, 1.0)


def test_equal_seeds_give_equal_intervals_whatever_the_number_of_prompts():
    """Resamples are drawn in pieces where prompts are many; the seed still fixes them."""
    scores = [float(i % 3 == 0) for i in range(5000)]
    first, second = (paired_bootstrap([0.0] * 5000, scores, n_resamples=2000, seed=s) for s in (1, 1))
    assert first == second


def test_scores_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="2 scores before, 1 after"):
        paired_bootstrap([0, 1], [1])
    with pytest.raises(ValueError, match="0 scores"):
        paired_bootstrap([], [])
