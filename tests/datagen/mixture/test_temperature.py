"""Oracles: square roots by hand, the limits, sizes that no power of could be held."""

import numpy as np
import pytest
from pydantic import ValidationError
from pytest import approx

from datagen.mixture import Seen
from datagen.mixture.temperature import Config, temperature


def weights(n_tokens: list[float], t: float) -> tuple[float, ...]:
    seen = Seen(names=[str(i) for i in range(len(n_tokens))], n_tokens=np.array(n_tokens))
    return temperature(Config(mixture_temperature=t), None, seen).weights


def test_roots_by_hand():
    """Square roots of 1, 4, 25 are 1, 2, 5; fifth roots of 1 and 32 are 1 and 2."""
    assert weights([1, 4, 25], 2) == approx((0.125, 0.25, 0.625))
    assert weights([1, 32], Config().mixture_temperature) == approx((1 / 3, 2 / 3))


def test_limits_are_proportional_and_uniform():
    assert weights([100, 300], 1) == approx((0.25, 0.75))
    assert weights([1, 1e12], 1e9) == approx((0.5, 0.5), abs=1e-7)
    assert weights([1e300, 3e300], 1) == approx((0.25, 0.75))


def test_a_temperature_below_one_is_refused():
    with pytest.raises(ValidationError):
        Config(mixture_temperature=0.5)
