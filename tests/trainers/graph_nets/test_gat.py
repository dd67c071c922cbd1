"""Oracles: the paper's attention node by node; a node's own graph for its computation tree."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from datagen.contracts.errors import ParamsError
from trainers.graph_nets.gat import gat


@pytest.mark.parametrize("directed", [False, True])
def test_the_root_of_a_tree_is_its_node(error_of_trees: Callable[..., float], directed: bool):
    assert error_of_trees("gat", directed=directed) <= 1e-12


def test_attention_by_hand(one_layer: Callable[..., Any]):
    """Equations 3 and 5 for each head; the node's edge to itself is of zeros."""
    one = one_layer("gat")
    conv, (n, width) = one.layer.conv, one.nodes.shape
    with torch.no_grad():
        values = conv.lin(one.nodes).view(n, 4, width // 4)
        marks = conv.lin_edge(one.edges).view(-1, 4, width // 4)
        for node in range(n):
            into = (one.batch.edges[1] == node).nonzero().flatten()
            sources = torch.cat([one.batch.edges[0, into], torch.tensor([node])])
            edges = torch.cat([marks[into], torch.zeros(1, 4, width // 4, dtype=torch.float64)])
            terms = values[sources] * conv.att_src + values[node] * conv.att_dst + edges * conv.att_edge
            weights = torch.nn.functional.leaky_relu(terms.sum(dim=2), 0.2).softmax(dim=0)
            expected = (weights.unsqueeze(2) * values[sources]).sum(dim=0).flatten() + conv.bias
            assert torch.allclose(one.out[node], expected, rtol=0, atol=1e-12)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ParamsError, match=r"hidden: gat has 4 heads; give a multiple of 4 \(got 10\)"):
        gat(10)
