"""Bootstrap: how sure is a figure, and how sure is it that one model is better than another on the same prompts?

Efron. Bootstrap Methods: Another Look at the Jackknife. The Annals of Statistics 7(1), 1979 (percentile interval).
Koehn. Statistical Significance Tests for Machine Translation Evaluation. EMNLP 2004, section 4: both models are
resampled together, prompt by prompt.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 22  # numbers drawn at once


class Interval(NamedTuple):
    """A figure, such as a mean difference, and the ends of its interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], *, n_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of `after` - `before` over prompts, and its percentile interval over resampled prompts.

    Args:
        before: score of each prompt.
        after: likewise, in the same order.
        n_resamples: prompts are drawn with replacement so many times.
        level: of the interval, in (0, 1).
        seed: of the draws; equal seeds give equal intervals.

    Raises:
        ValueError: no prompt, or not as many scores as there are in the other.
    """
    if len(before) != len(after) or not len(before):
        raise ValueError(
            f"{len(before)} scores before, {len(after)} after; a paired bootstrap needs both of each prompt"
        )
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    n = len(differences)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // n)
    means = [
        differences[generator.integers(n, size=(min(chunk, n_resamples - start), n))].mean(axis=1)
        for start in range(0, n_resamples, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences.mean()), float(low), float(high))


def bootstrap(
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    n_rows: int,
    n_resamples: int = 2000,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A figure of all rows, and its percentile interval over resampled rows; for what is no mean over rows.

    Args:
        figure: of weights (R, n_rows), how often each row was drawn, it gives (R,) values.
        n_rows: above 0.
        n_resamples: rows are drawn with replacement so many times.
        level: of the interval, in (0, 1).
        seed: of the draws; equal seeds give equal intervals.

    Raises:
        ValueError: no row.
    """
    if n_rows < 1:
        raise ValueError("a bootstrap needs a row at the least")
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // n_rows)
    values = [
        figure(generator.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=n).astype(np.float64))
        for start in range(0, n_resamples, chunk)
        if (n := min(chunk, n_resamples - start))
    ]
    low, high = np.quantile(np.concatenate(values), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(figure(np.ones((1, n_rows)))[0]), float(low), float(high))
