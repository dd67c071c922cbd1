"""Oracles: the paper's mean by a loop over edges; a node's own graph for its computation tree."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.mark.parametrize("directed", [False, True])
def test_the_root_of_a_tree_is_its_node(error_of_trees: Callable[..., float], directed: bool):
    assert error_of_trees("sage", directed=directed) <= 1e-12


@pytest.mark.parametrize("with_edges", [False, True])
def test_it_takes_the_neighbours_mean(one_layer: Callable[..., Any], with_edges: bool):
    """Algorithm 1, node by node; a node that no edge leads to hears 0."""
    one = one_layer("sage", with_edges=with_edges)
    conv = one.layer.conv
    for node in range(len(one.nodes)):
        into = (one.batch.edges[1] == node).nonzero().flatten()
        said = one.nodes[one.batch.edges[0, into]] + one.edges[into]
        heard = said.mean(dim=0) if len(said) else torch.zeros(one.nodes.shape[1], dtype=torch.float64)
        with torch.no_grad():
            expected = conv.lin_l.weight @ heard + conv.lin_l.bias + conv.lin_r.weight @ one.nodes[node]
        assert torch.allclose(one.out[node], expected, rtol=0, atol=1e-12)
