"""Continuous node features as labels: each node gets the number of the nearest of a few vectors, the codebook.

Source: none; vector quantisation by k-means, Lloyd 1982. A tree holds labels, so methods that count trees need it.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.graphs import Floats, GraphSet, Ints


def fit_codebook(features: Floats, n_codes: int, *, seed: int) -> Floats:
    """(K, D) centres of k-means, in the order of their numbers; all rows that differ where they are `n_codes` or fewer.

    One thread fits in float64: with several, the order of sums, and so the centres, would depend on the CPUs.

    Args:
        features: (V, D) of nodes; distances are Euclidean in it, as it is given.
        n_codes: 1 or more.
        seed: of the centres that k-means begins with.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    rows = np.unique(features, axis=0)
    if len(rows) <= n_codes:
        return rows
    try:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        raise MissingError("quantise needs scikit-learn: `pip install 'datastill[graph]'`") from None
    make: Any = KMeans  # its types are guessed from defaults
    with threadpool_limits(1):
        fitted = make(n_codes, n_init=1, random_state=seed % 2**32).fit(features.astype(np.float64))
    centres = fitted.cluster_centers_
    return np.unique(centres.astype(np.float32), axis=0)


def quantised(graphs: GraphSet, codebook: Floats) -> GraphSet:
    """The graphs with one more column of node labels, the code of the node's features, and without these.

    Raises:
        DataError: nodes have not as many features as the codebook's rows.
    """
    if graphs.node_features.shape[1] != codebook.shape[1]:
        raise DataError(
            f"graphs: nodes have {graphs.node_features.shape[1]} continuous features, the codebook "
            f"{codebook.shape[1]}; give graphs of the set that it was made of"
        )
    labels = np.column_stack([graphs.node_labels, codes_of(graphs.node_features, codebook)])
    return replace(graphs, node_labels=labels, node_features=graphs.node_features[:, :0])


def codes_of(features: Floats, codebook: Floats) -> Ints:
    """(V,) the row of the codebook nearest to each; of two as near, the first."""
    best = np.zeros(len(features), np.int64)
    least = np.full(len(features), np.inf)
    for code, centre in enumerate(codebook.astype(np.float64)):
        distances = ((features - centre) ** 2).sum(axis=1)
        nearer = distances < least
        best[nearer], least[nearer] = code, distances[nearer]
    return best


def loss(features: Floats, codebook: Floats) -> float:
    """The share of the features' variance that the codes do not tell, in [0, 1]; 0 where all nodes have the same."""
    exact = features.astype(np.float64)
    total = ((exact - exact.mean(axis=0)) ** 2).sum()
    left = ((exact - codebook[codes_of(features, codebook)]) ** 2).sum()
    return float(left / total) if total else 0.0
