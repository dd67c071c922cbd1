"""Has a proxy left its power law? A sign of teacher hacking for who has no oracle.

Tiapkin et al. On Teacher Hacking in Language Model Distillation. ICML 2025. arXiv:2502.02671: hacking is detected where
optimisation departs from a polynomial law of convergence. Where the paper is silent: the proxy is the distance to the
teacher on prompts that the student does not learn from; its law is c t^-a + f, with a floor f for what no student
learns of the teacher; it is fitted to the part before the proxy's minimum, by least squares of relative errors. The
first steps, in which Adam moves every weight as far whatever the gradient, follow no law and are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_EXPONENTS = np.linspace(0.05, 3.0, 60)
_FIRST = 5  # step that a law may begin with
_N_FITTED = 12  # points at the least
_N_END = 8  # points whose mean is the end of a curve


class Law(NamedTuple):
    """coefficient * t^-exponent + floor, none of them negative."""

    coefficient: float
    exponent: float
    floor: float

    def at(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its values."""
        return self.coefficient * steps**-self.exponent + self.floor


class Departure(NamedTuple):
    """What a proxy did after its minimum.

    Attributes:
        law: of the part before.
        lowest: step of the minimum, where to stop.
        excess: how far the end is above the law, in parts of it.
        fired: whether that is more than the threshold.
    """

    law: Law
    lowest: int
    excess: float
    fired: bool


def find_departure(steps: Sequence[int], proxy: Sequence[float], threshold: float) -> Departure:
    """Compare the end of a curve with the law of its beginning.

    Args:
        steps: from 1, rising, best evenly spaced in their logarithm; those before 5 are not looked at.
        proxy: above 0, at each step.
        threshold: above 0.

    Raises:
        ValueError: fewer than 20 points from step 5 on, or one that no power law has.
    """
    t, values = np.asarray(steps, dtype=np.float64), np.asarray(proxy, dtype=np.float64)
    if len(t) != len(values) or (t >= _FIRST).sum() < _N_FITTED + _N_END:
        raise ValueError(
            f"{len(steps)} steps, {len(proxy)} values; a departure needs {_N_FITTED + _N_END} points from step {_FIRST}"
        )
    if not (t[0] > 0 and (np.diff(t) > 0).all() and np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("steps must rise from 1 and a proxy be finite and above 0; leave step 0 out")
    t, values = t[t >= _FIRST], values[t >= _FIRST]
    lowest = int(values.argmin())
    n_fitted = min(max(lowest + 1, _N_FITTED), len(t) - _N_END)
    law = fit(t[:n_fitted], values[:n_fitted])
    excess = float(values[-_N_END:].mean() / law.at(t[-_N_END:]).mean() - 1)
    return Departure(law, int(t[lowest]), excess, excess > threshold)


def fit(steps: NDArray[np.float64], values: NDArray[np.float64]) -> Law:
    """The law with the least sum of squared relative errors; exponents are tried from 0.05 to 3 in steps of 0.05."""
    from scipy.optimize import nnls

    found: list[tuple[float, Law]] = []
    for exponent in _EXPONENTS:
        columns = np.stack([steps**-exponent, np.ones_like(steps)], axis=1) / values[:, None]
        (coefficient, floor), error = nnls(columns, np.ones_like(values))
        found.append((float(error), Law(float(coefficient), float(exponent), float(floor))))
    return min(found)[1]
