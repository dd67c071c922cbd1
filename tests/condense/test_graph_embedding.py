"""Oracles: trees written out as text and counted by a loop, a kernel by hand."""

from collections import Counter

import numpy as np
import pytest

from condense.graph_embedding import N_DIMENSIONS, embed_graphs
from datagen.contracts.graphs import GraphSet
from tests.tiny_graphs import graph_set, random_graphs


def text_of(graphs: GraphSet, node: int, depth: int) -> str:
    """The tree below a node, its children sorted."""
    label = f"{graphs.node_labels[node].tolist()}"
    if not depth:
        return label
    edges = np.flatnonzero(graphs.edges[1] == node)
    below = [f"{graphs.edge_labels[e].tolist()}{text_of(graphs, graphs.edges[0, e], depth - 1)}" for e in edges]
    return f"{label}({' '.join(sorted(below))})"


def kernel(graphs: GraphSet, layers: int) -> np.ndarray:
    """Of all pairs: nodes of one that have a tree, times those of the other, over all trees and depths; normalised."""
    counts = [
        Counter((depth, text_of(graphs, node, depth)) for node in range(*ends) for depth in range(layers + 1))
        for ends in zip(graphs.node_offsets[:-1], graphs.node_offsets[1:], strict=True)
    ]
    products = np.array([[sum(n * b[tree] for tree, n in a.items()) for b in counts] for a in counts])
    return products / np.sqrt(np.outer(products.diagonal(), products.diagonal()))


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("n", [5, 30])
def test_products_are_the_subtree_kernel(layers: int, n: int):
    graphs = random_graphs(n, 5, most_nodes=6)
    rows = embed_graphs(graphs, layers).astype(np.float64)
    assert rows.dtype == np.float64 and rows.shape[1] <= N_DIMENSIONS
    np.testing.assert_allclose(rows @ rows.T, kernel(graphs, layers), atol=1e-5)


def test_two_paths_by_hand():
    """Ends and middles of 2 and 3 nodes: depth 0 gives 2 x 3, depth 1 gives 2 x 2 of the ends; norms 8 and 9 + 5."""
    graphs = graph_set([(2, [(0, 1)]), (3, [(0, 1), (1, 2)])])
    rows = embed_graphs(graphs, 1)
    assert rows[0] @ rows[1] == pytest.approx((6 + 4) / np.sqrt(8 * 14), abs=1e-6)


def test_many_graphs_keep_nearly_all_of_their_products():
    """More graphs and trees than dimensions: what is left out is what the smallest singular values hold."""
    graphs = random_graphs(N_DIMENSIONS + 60, 6, most_nodes=5, n_labels=2)
    rows = embed_graphs(graphs, 2)
    assert rows.shape == (len(graphs), N_DIMENSIONS)
    wanted = kernel(graphs, 2)
    values = np.linalg.eigvalsh(wanted)
    left_out = values[: len(graphs) - N_DIMENSIONS].clip(0)
    error = np.linalg.norm(rows @ rows.T - wanted)
    assert error <= 1.5 * np.linalg.norm(left_out) + 1e-4
    np.testing.assert_array_equal(rows, embed_graphs(graphs, 2))
    other = embed_graphs(graphs, 2, seed=2**62 + 1)  # as derive_seed gives them
    np.testing.assert_allclose(other @ other.T, rows @ rows.T, atol=0.1)
