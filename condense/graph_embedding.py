"""Graphs as vectors, to choose coresets by: how many of a graph's nodes have each computation tree.

Shervashidze, Schweitzer, van Leeuwen, Mehlhorn, Borgwardt. Weisfeiler-Lehman Graph Kernels. 2011. JMLR 12, section 3.2:
the columns are the trees of depth 0 to L, so that the product of two rows is their subtree kernel. Departures: rows are
scaled to length 1, so the kernel is the normalised one and size alone sets no graphs apart; beyond `N_DIMENSIONS`
columns only the directions of the largest singular values are kept (Halko et al. 2009, arXiv:0909.4061).

Source: that paper, which is on no arXiv.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from condense.graphs.computation_trees import tree_ids
from datagen.contracts.errors import MissingError
from datagen.contracts.graphs import Floats, GraphSet

N_DIMENSIONS = 128


def embed_graphs(graphs: GraphSet, layers: int = 3, *, seed: int = 0) -> Floats:
    """(G, D) with D at most `N_DIMENSIONS`; continuous features are not read.

    Args:
        graphs: to embed.
        layers: the depth of the largest trees, 0 or more.
        seed: of the directions that are tried for large singular values.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    counts = tree_counts(graphs, layers)
    lengths = np.sqrt(np.asarray((counts * counts).sum(axis=1)).ravel())  # above 0, as every graph has a node
    rows: Any = csr_array(counts / lengths[:, None])  # without types
    if min(rows.shape) <= N_DIMENSIONS:
        return _exact(rows).astype(np.float32)
    try:
        from sklearn.decomposition import TruncatedSVD
    except ModuleNotFoundError:
        raise MissingError("coresets of graphs need scikit-learn: `pip install 'datastill[graph]'`") from None
    make: Any = TruncatedSVD  # its types are guessed from defaults
    return make(N_DIMENSIONS, random_state=seed % 2**32).fit_transform(rows).astype(np.float32)


def tree_counts(graphs: GraphSet, layers: int) -> csr_array:
    """(G, trees) float64: how many nodes of each graph have each tree, a block of columns for each depth from 0 on."""
    owner = graphs.graph_of_node
    ones = np.ones(graphs.n_nodes)
    blocks = [
        csr_array((ones, (owner, ids)), shape=(len(graphs), int(ids.max()) + 1))  # entries of equal place add up
        for ids in tree_ids(graphs, layers).by_depth
    ]
    return csr_array(hstack(blocks))


def _exact(rows: Any) -> NDArray[np.float64]:
    """As many columns as the smaller side, with the same products of rows."""
    if rows.shape[1] <= rows.shape[0]:
        return rows.toarray()
    values, vectors = np.linalg.eigh((rows @ rows.T).toarray())
    return vectors * np.sqrt(values.clip(0))
