"""Oracles: the paper's sum by a loop over edges; a node's own graph for its computation tree."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.mark.parametrize("directed", [False, True])
def test_the_root_of_a_tree_is_its_node(error_of_trees: Callable[..., float], directed: bool):
    assert error_of_trees("gin", directed=directed) <= 1e-12


def test_it_adds_up_what_the_neighbours_say(one_layer: Callable[..., Any]):
    """Equation 4.1, edge by edge."""
    one = one_layer("gin")
    epsilon = 0.25
    torch.nn.init.constant_(one.layer.conv.eps, epsilon)
    heard = (1 + epsilon) * one.nodes
    for edge, (source, target) in enumerate(one.batch.edges.T.tolist()):
        heard[target] += (one.nodes[source] + one.edges[edge]).relu()
    first, _, second = one.layer.conv.nn
    with torch.no_grad():
        expected = (heard @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
        assert torch.allclose(one.layer(one.nodes, one.batch, one.edges), expected, rtol=0, atol=1e-12)
