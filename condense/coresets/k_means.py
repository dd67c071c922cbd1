"""k-means: the real row nearest each centre of its class.

Lloyd. Least squares quantization in PCM. 1982; seeded as in Arthur, Vassilvitskii. k-means++. 2007; both by
scikit-learn. As an initialisation of condensed images: Shen et al. AST. 2023. arXiv:2310.10541, section 4.1, there in
the logits of a network. With one row a class it is the row nearest the mean.

Source: the baseline is nobody's in particular; a centre itself would be no real row.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from condense.coresets import Candidates
from condense.coresets._classes import by_class, joined
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Config(Params):
    """Of `n_restarts` runs of k-means, each from centres drawn anew, that of the least inertia is taken."""

    method: Literal["k_means"] = "k_means"
    n_restarts: int = Field(10, ge=1)


def k_means(config: Config, candidates: Candidates, sizes: Sequence[int], *, seed: int) -> "NDArray[np.int64]":
    """See `condense.coresets.CoresetMethod`.

    Where one row is the nearest of two centres, rows and centres are paired so that the squared distances have the
    least sum.
    """
    return joined(
        rows[_nearest(candidates.features[rows], size, config.n_restarts, derive_seed(seed, "k_means", label))]
        for label, rows, size in by_class(candidates, sizes)
    )


def _nearest(features: "NDArray[np.floating]", n_centres: int, n_restarts: int, seed: int) -> "NDArray[np.int64]":
    import numpy as np
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    features = features.astype(np.float64)
    make: Any = KMeans  # its types are guessed from defaults
    clusters = make(n_centres, n_init=n_restarts, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal rows share centres, and are paired all the same
        distances = clusters.fit(features).transform(features)
    return linear_sum_assignment(distances.T**2)[1]
