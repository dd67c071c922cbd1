"""Oracles: PyTorch Geometric's GCNConv where edges have no labels; a node's own graph for its computation tree."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.nn import GCNConv


@pytest.mark.parametrize("directed", [False, True])
def test_the_root_of_a_tree_is_its_node_where_degrees_are_the_graph_s(
    error_of_trees: Callable[..., float], directed: bool
):
    """Without them leaves have lost their neighbours, and the root is another's: the trees alone do not say enough."""
    assert error_of_trees("gcn", degrees=True, directed=directed) <= 1e-12
    assert error_of_trees("gcn", degrees=False, directed=directed) > 1e-3


def test_without_edge_labels_it_is_the_library_s(one_layer: Callable[..., Any]):
    """That takes a node's own self-loop for the one that it adds, so such edges are left out of both."""
    one = one_layer("gcn", with_edges=False)
    real = one.batch.edges[0] != one.batch.edges[1]
    edges = one.batch.edges[:, real]
    batch = type(one.batch)(
        **{name: getattr(one.batch, name) for name in one.batch.__slots__}
        | {"edges": edges, "degrees": torch.bincount(edges[1], minlength=len(one.nodes))}
    )
    theirs = GCNConv(one.nodes.shape[1], one.nodes.shape[1]).double()
    theirs.lin.weight.data, theirs.bias.data = one.layer.linear.weight.data, one.layer.linear.bias.data
    with torch.no_grad():
        found, expected = one.layer(one.nodes, batch, one.edges[real]), theirs(one.nodes, edges)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_edges_are_added_to_what_neighbours_say(one_layer: Callable[..., Any]):
    """By a loop over edges; self-loops of the graph are heard beside the node itself."""
    one = one_layer("gcn")
    degrees = torch.bincount(one.batch.edges[1], minlength=len(one.nodes)).double() + 1
    heard = one.nodes / degrees.unsqueeze(1)
    for edge, (source, target) in enumerate(one.batch.edges.T.tolist()):
        heard[target] += (one.nodes[source] + one.edges[edge]) / (degrees[source] * degrees[target]).sqrt()
    with torch.no_grad():
        assert torch.allclose(one.out, one.layer.linear(heard), rtol=0, atol=1e-12)
