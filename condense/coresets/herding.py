"""Herding: rows chosen one after another, each bringing the mean of those chosen nearest to the mean of the class.

Welling. Herding Dynamical Weights to Learn. 2009; in the greedy form of Rebuffi et al. iCaRL. 2016. arXiv:1611.07725,
algorithm 4, which is the baseline of the papers on condensation. Departure: features are taken as given, iCaRL scales
each row's to length 1. The first n rows of a longer choice are the choice of n.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from condense.coresets import Candidates
from condense.coresets._classes import by_class, joined
from datagen.contracts.params import Params

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Config(Params):
    """Nothing to choose."""

    method: Literal["herding"] = "herding"


def herding(config: Config, candidates: Candidates, sizes: Sequence[int], *, seed: int) -> "NDArray[np.int64]":
    """See `condense.coresets.CoresetMethod`; draws nothing, and of equally good rows takes the first."""
    return joined(rows[_herd(candidates.features[rows], size)] for _, rows, size in by_class(candidates, sizes))


def _herd(features: "NDArray[np.floating]", size: int) -> "NDArray[np.int64]":
    """Minimises |(sum of the chosen + x) / k - mean| in every step: with the mean at 0, |x|^2 + 2 x . sum."""
    import numpy as np

    centred = features.astype(np.float64)
    centred -= centred.mean(axis=0)
    squares = (centred**2).sum(axis=1)
    chosen = np.zeros(size, dtype=np.int64)
    total = np.zeros(centred.shape[1])
    for k in range(size):
        distances = squares + 2 * centred @ total
        distances[chosen[:k]] = np.inf
        chosen[k] = distances.argmin()
        total += centred[chosen[k]]
    return chosen
