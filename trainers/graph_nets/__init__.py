"""Layers of graph networks, one a file, a function named like it; `trainers.graph_nets.opening` makes networks of them.

gat   neighbours weighed by attention
gcn   neighbours weighed by both degrees
gin   neighbours added up, then a small network
sage  the neighbours' mean beside the node itself
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBatch:
    """Graphs end to end, as tensors on one device.

    Axes: G graphs, V nodes, E directed edges, F columns of node labels, H of edge labels, D node features.

    Attributes:
        n_graphs: G; a graph may have no node.
        graph_of_node: (V,) int64.
        edges: (2, E) int64, source above target; a node listens to the sources of the edges that it is the target of.
        node_labels: (V, F) int64.
        edge_labels: (E, H) int64.
        node_features: (V, D) float.
        is_root: (V,) bool; roots alone are read out.
        degrees: (V,) int64, of each node in the graph that it comes from.
        labels: (G,) int64.
    """

    n_graphs: int
    graph_of_node: Tensor
    edges: Tensor
    node_labels: Tensor
    edge_labels: Tensor
    node_features: Tensor
    is_root: Tensor
    degrees: Tensor
    labels: Tensor


class GraphLayer(Protocol):
    """The function that a layer's module is named after."""

    def __call__(self, width: int) -> nn.Module:
        """A module from (V, width) nodes, a `GraphBatch` and (E, width) edges to (V, width), before any activation.

        A node's output depends on itself, its degree and the edges that it is the target of, so that the root of a
        computation tree as deep as a network has layers gets what the node gets in its graph.

        Args:
            width: of nodes and edges.

        Raises:
            ParamsError: the layer has no such width.
        """
        ...
