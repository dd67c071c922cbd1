"""A layer by itself on a few graphs, and a network on graphs and on their computation trees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from datagen.contracts.stage import load_method
from tests.labelled_graphs import computation_trees, labelled_graphs
from trainers.graph_batches import columns_of, tensors_of
from trainers.graph_nets import GraphBatch
from trainers.graph_nets.opening import open_graph_net
from trainers.graph_steps import Network

WIDTH = 8


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@dataclass(frozen=True)
class OneLayer:
    """A layer in float64, random nodes and edges, and what it makes of them."""

    layer: Any
    batch: GraphBatch
    nodes: Tensor
    edges: Tensor
    out: Tensor


@pytest.fixture
def one_layer() -> Callable[..., OneLayer]:
    """Opens a layer by name, on directed graphs with self-loops, multi-edges and isolated nodes."""

    def run(name: str, *, with_edges: bool = True) -> OneLayer:
        batch = tensors_of(labelled_graphs(5, seed=3, directed=True)).all()
        torch.manual_seed(0)
        layer = getattr(load_method("trainers.graph_nets", name), name)(WIDTH).double()
        nodes = torch.randn(len(batch.graph_of_node), WIDTH, dtype=torch.float64)
        edges = torch.randn(batch.edges.shape[1], WIDTH, dtype=torch.float64) * with_edges
        with torch.no_grad():
            return OneLayer(layer, batch, nodes, edges, layer(nodes, batch, edges))

    return run


@pytest.fixture
def error_of_trees() -> Callable[..., float]:
    """The largest difference between a root's embedding on its computation tree and its node's on the graph."""

    def run(name: str, *, layers: int = 3, degrees: bool = False, directed: bool = False) -> float:
        graphs = labelled_graphs(6, seed=1, directed=directed)
        network = Network(hidden=16, layers=layers, dropout=0.3, norm="batch")
        net = open_graph_net(name, columns_of(graphs), 2, network, seed=0).double()
        with torch.no_grad():
            for parameter in net.parameters():  # nothing at its neutral initial value
                parameter.add_(0.2 * torch.randn_like(parameter))
            batch = tensors_of(graphs).all()
            net.train()(batch)  # running means that are not 0
            net.eval()
            trees = tensors_of(computation_trees(graphs, layers, degrees=degrees)).all()
            on_graph, on_trees = net.node_embeddings(batch), net.node_embeddings(trees)[trees.is_root]
            assert on_graph.std(dim=0).min() > 0.01, "the nodes differ"
            return float((on_graph - on_trees).abs().max())

    return run
