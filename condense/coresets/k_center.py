"""k-center: rows chosen one after another, each the one farthest from all chosen before.

Gonzalez. Clustering to minimize the maximum intercluster distance. 1985: the largest distance of any row to its nearest
chosen one is at most twice the least possible. As a coreset: Sener, Savarese. Active Learning for Convolutional Neural
Networks: A Core-Set Approach. 2017. arXiv:1708.00489, algorithm 1. The first row is the one nearest the class's mean,
so nothing is drawn; the bound holds for any. The first n rows of a longer choice are the choice of n.
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

    method: Literal["k_center"] = "k_center"


def k_center(config: Config, candidates: Candidates, sizes: Sequence[int], *, seed: int) -> "NDArray[np.int64]":
    """See `condense.coresets.CoresetMethod`; draws nothing, and of equally far rows takes the first."""
    return joined(rows[_spread(candidates.features[rows], size)] for _, rows, size in by_class(candidates, sizes))


def _spread(features: "NDArray[np.floating]", size: int) -> "NDArray[np.int64]":
    import numpy as np

    features = features.astype(np.float64)

    def squared_distances(point: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return ((features - point) ** 2).sum(axis=1)

    chosen = np.zeros(size, dtype=np.int64)
    chosen[0] = squared_distances(features.mean(axis=0)).argmin()
    to_nearest = squared_distances(features[chosen[0]])
    for k in range(1, size):
        to_nearest[chosen[:k]] = -1.0  # below a row that equals a chosen one
        chosen[k] = to_nearest.argmax()
        to_nearest = np.minimum(to_nearest, squared_distances(features[chosen[k]]))
    return chosen
