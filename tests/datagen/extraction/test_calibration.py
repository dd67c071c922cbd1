"""Thresholds of equal false matches; oracles: order statistics by hand, scipy's beta, the mean over many samples."""

import numpy as np
import pytest
from scipy.stats import beta

from datagen.contracts.errors import DataError
from datagen.extraction.calibration import allowed_matches, calibrate, shares_from, upper_bound


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_the_threshold_is_just_above_an_order_statistic():
    """Of 199, (1 + 1) / 200 is 1 %: one of them may match, so the threshold is above the second highest."""
    similarities = np.linspace(0, 0.9, 199, dtype=np.float32)
    found = calibrate(similarities, similarities[::-1].copy(), 0.01)
    assert found.value > similarities[-2] and found.value == pytest.approx(float(similarities[-2]), abs=1e-6)
    assert (found.in_against, found.by_extracted, found.n_unseen) == (1 / 199, 1 / 199, 199)


def test_of_both_directions_the_higher_threshold_counts():
    low, high = np.zeros(99, np.float32), np.zeros(99, np.float32)
    low[3], high[5] = 0.4, 0.7
    for one, other in ((low, high), (high, low)):
        found = calibrate(one, other, 0.01)
        assert found.value == pytest.approx(0.7) and found.value > np.float32(0.7)
        assert found.in_against == found.by_extracted == 0


def test_equal_similarities_match_together_or_not_at_all():
    """Three at the height of the two that may match: none does."""
    similarities = np.concatenate([np.full(96, 0.1), np.full(3, 0.8)]).astype(np.float32)
    assert allowed_matches(99, 0.03) == 2
    found = calibrate(similarities, similarities, 0.03)
    assert found.in_against == 0 and found.value > np.float32(0.8)


@pytest.mark.parametrize(("n", "rate", "allowed"), [(99, 0.01, 0), (198, 0.01, 0), (199, 0.01, 1), (19, 0.05, 0)])
def test_how_many_may_match(n: int, rate: float, allowed: int):
    assert allowed_matches(n, rate) == allowed


def test_too_few_texts_tell_no_such_rate():
    with pytest.raises(
        DataError, match=r"98 unseen texts cannot tell a false-match rate of 0\.01; give at least 99, or"
    ):
        allowed_matches(98, 0.01)


def test_no_threshold_is_above_equal_texts():
    similarities = floats(*[0.2] * 97, 1, 1)
    with pytest.raises(DataError, match=r"more than 0 of 99 unseen texts have a neighbour of similarity 1"):
        calibrate(similarities, similarities, 0.01)


def test_a_new_text_matches_at_the_rate():
    """Of 99, four may match at 5 %: a new one is above the fifth highest with a probability of 5 / 100."""
    spread = np.random.default_rng(0)
    shares: list[float] = []
    for _ in range(400):
        unseen = spread.normal(0.4, 0.1, 99).astype(np.float32)
        value = calibrate(unseen, unseen, 0.05).value
        shares.append(float(np.mean(spread.normal(0.4, 0.1, 500) >= value)))
    sd = (0.05 * 0.95 / 101 + 0.05 * 0.95 / 500) ** 0.5
    assert np.mean(shares) == pytest.approx(0.05, abs=4 * sd / 400**0.5)


@pytest.mark.parametrize(("n_matched", "n"), [(0, 99), (1, 199), (3, 50), (40, 4000)])
def test_the_bound_is_clopper_and_pearson_s(n_matched: int, n: int):
    assert upper_bound(n_matched, n) == pytest.approx(beta.ppf(0.95, n_matched + 1, n - n_matched), abs=1e-7)
    assert upper_bound(n, n) == 1


def test_shares_fall_with_the_threshold():
    similarities = floats(0.2, 0.5, 0.5, -np.inf)
    assert shares_from(similarities, [-1, 0.2, 0.3, 0.5, 0.6]) == [0.75, 0.75, 0.5, 0.5, 0]
    assert shares_from(floats(), [0.5]) == [0]
