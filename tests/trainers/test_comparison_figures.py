"""Oracles: published quantiles of Student's t, differences by hand, brute force over numbers of students."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from trainers.bootstrap import Interval
from trainers.comparison_figures import (
    best_of,
    break_even,
    difference,
    hard_label_recovery,
    improvement_over_random,
    mean_interval,
    standing,
)


@pytest.mark.parametrize(("n", "level", "quantile"), [(5, 0.95, 2.776445), (5, 0.99, 4.604095), (2, 0.95, 12.706205)])
def test_the_interval_is_student_s(n: int, level: float, quantile: float):
    """Tables of t with n - 1 degrees of freedom; 0 to n - 1 have variance n (n + 1) / 12."""
    found = mean_interval([float(i) for i in range(n)], level)
    half = quantile * math.sqrt(n * (n + 1) / 12 / n)
    assert found == approx(((n - 1) / 2, (n - 1) / 2 - half, (n - 1) / 2 + half), abs=1e-6)


def test_seeds_are_compared_pair_by_pair():
    """A constant gain over seeds of very different accuracy has an interval of no width; the pairs must agree."""
    before = [0.1, 0.5, 0.9, 0.3, 0.7]
    assert difference([one + 0.25 for one in before], before) == approx((0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match="argument 2 is longer"):
        difference([0.1, 0.2], before)
    with pytest.raises(ValueError, match="1 seeds"):
        difference([0.1], [0.2])


def test_measures_of_dd_ranking_have_their_signs():
    """Whole data .9, condensed .7, random .4: .2 is not recovered, .3 is won."""
    whole, condensed, random = [0.9, 0.9], [0.7, 0.7], [0.4, 0.4]
    assert hard_label_recovery(whole, condensed).mean == approx(0.2)
    assert improvement_over_random(condensed, random).mean == approx(0.3)


def test_the_best_coreset_is_that_of_the_highest_mean():
    assert best_of({"at_random-10": [0.2, 0.9], "k_means-10": [0.6, 0.6], "herding-10": [0.6, 0.6]}) == "k_means-10"


@pytest.mark.parametrize(
    ("hard", "soft", "says"),
    [
        ((0.01, 0.2), (-0.3, -0.1), "wins"),
        ((-0.1, 0.1), (0.01, 0.2), "wins by its labels"),
        ((-0.2, -0.1), (0.01, 0.2), "wins by its labels"),
        ((-0.2, -0.1), (-0.1, 0.1), "loses"),
        ((-0.1, 0.1), (-0.3, -0.1), "no difference shown"),
        ((0.0, 0.1), (0.0, 0.1), "no difference shown"),
        (None, (0.01, 0.2), "wins by its labels"),
        (None, (-0.2, -0.1), "loses"),
    ],
)
def test_who_wins_only_with_soft_labels_wins_by_them(
    hard: tuple[float, float] | None, soft: tuple[float, float], says: str
):
    found = {"hard": hard, "soft": soft}
    differences = {name: Interval(sum(one) / 2, *one) for name, one in found.items() if one}
    assert standing(differences, whole=Interval(0.9, 0.8, 1.0), chance=0.1) == says
    assert standing(differences, whole=Interval(0.2, 0.1, 0.3), chance=0.1) == "the net learns nothing"


@given(*[st.integers(0, 60)] * 4)
def test_break_even_is_every_number_of_students_that_pays(fixed: int, each: int, other_fixed: int, other_each: int):
    """Oracle: every number up to more than an end can be: the costs part by a second a student at the least."""
    cheaper = [n for n in range(1, 63) if fixed + n * each < other_fixed + n * other_each]
    found = break_even(fixed, each, other_fixed, other_each)
    assert (found is not None) == bool(cheaper)
    if found:
        assert list(range(found.first, (found.last or 62) + 1)) == cheaper
        assert (found.last is None) == (cheaper[-1] == 62), "62 is cheaper only where every later one is"


def test_break_even_by_hand():
    """30 s of condensing, 0.5 s a student in place of 2 s: 20 students cost 40 s both ways, the 21st pays for ever.

    0.25 s more a student against 1 s of choosing: 3 students are cheaper by 0.25 s, 4 cost the same.
    """
    assert break_even(30, 0.5, 0, 2) == (21, None)
    assert break_even(30, 0.5, 29.5, 0.5) is None
    assert break_even(29, 0.5, 29.5, 0.5) == (1, None)
    assert break_even(0, 0.5, 1, 0.25) == (1, 3)
    assert break_even(0, 1.5, 1, 0.5) is None
