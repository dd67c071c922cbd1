"""Oracles: curves made from laws that are known."""

import numpy as np
import pytest

from trainers.hacking.departure import find_departure, fit

STEPS = np.unique(np.geomspace(1, 1200, 60).round()).astype(int)


def test_a_law_is_found_again():
    law = fit(STEPS.astype(float), 1.5 * STEPS**-0.5 + 0.2)
    assert law == pytest.approx((1.5, 0.5, 0.2), abs=1e-6)


def test_what_follows_its_law_to_a_floor_does_not_depart():
    found = find_departure(STEPS.tolist(), (1.5 * STEPS**-0.5 + 0.2).tolist(), 0.05)
    assert not found.fired and found.excess == pytest.approx(0, abs=1e-6) and found.lowest == 1200


def test_a_curve_that_turns_departs_by_what_was_added():
    """Half as much again from step 200 on: the end is 0.5 above the law, and the lowest point is before."""
    values = (1.5 * STEPS**-0.5 + 0.2) * np.where(STEPS > 200, 1.5, 1.0)
    found = find_departure(STEPS.tolist(), values.tolist(), 0.4)
    assert found.fired and found.excess == pytest.approx(0.5, abs=1e-6)
    assert found.lowest == STEPS[STEPS <= 200][-1]
    assert not find_departure(STEPS.tolist(), values.tolist(), 0.6).fired


@pytest.mark.parametrize(
    ("steps", "proxy", "says"),
    [
        ([1, 2, 3], [3.0, 2.0, 1.0], "needs 20 points"),
        ([*range(40)], [1.0] * 40, "leave step 0 out"),
        ([*range(1, 31)], [0.0] * 30, "above 0"),
        ([*range(1, 31)], [float("nan")] * 30, "finite"),
    ],
)
def test_what_has_no_law_is_refused(steps: list[int], proxy: list[float], says: str):
    with pytest.raises(ValueError, match=says):
        find_departure(steps, proxy, 0.1)
