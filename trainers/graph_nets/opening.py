"""A graph network by its layer's name: labels to vectors, layers, the roots of each graph pooled, a linear head.

Labels of nodes, and anew for each layer those of edges, are embedded column by column and added up, as in Hu et al.
Open Graph Benchmark. 2020. arXiv:2005.00687, in its code; so are normalisation, ReLU and dropout after a layer, of
which the last has no ReLU. Pooling reads roots alone, as in Mirage (Gupta et al. 2023, arXiv:2310.09486).

A label that no graph had from which was learned adds nothing to a node or an edge: its vector is 0. Nodes with neither
labels nor features all begin as one learned vector. `norm=batch` takes mean and variance over roots in every layer, as
a tree's other nodes see less than their neighbourhood; all nodes of a real graph are roots.

Axes: V nodes, E edges, F columns of labels, W hidden units, G graphs, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.utils import scatter

from datagen.contracts.stage import load_method
from trainers.graph_nets import GraphBatch
from trainers.graph_steps import Network, Norm

_MOMENTUM, _EPSILON = 0.1, 1e-5  # of a running mean and of a variance, as torch has them


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What nodes and edges have.

    Attributes:
        node: a number a column of node labels, above the largest of them.
        edge: likewise of edges.
        n_features: continuous ones of a node.
    """

    node: Sequence[int]
    edge: Sequence[int]
    n_features: int


class LabelEmbedding(nn.Module):
    """(V, F) labels to the sum of their vectors, (V, W); those that `seen` says nobody learned from are 0."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(sum(sizes), width))
        for rows in self.table.data.split(list(sizes)) if sizes else ():
            nn.init.xavier_uniform_(rows)
        starts = torch.tensor([0, *sizes], dtype=torch.int64).cumsum(0)
        self.register_buffer("sizes", torch.tensor(list(sizes), dtype=torch.int64), persistent=False)
        self.register_buffer("starts", starts[:-1], persistent=False)
        self.register_buffer("seen", torch.ones(sum(sizes), dtype=torch.bool))
        self.sizes: Tensor
        self.starts: Tensor
        self.seen: Tensor

    def positions(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(V, F) rows of the table, and whether each is one that was learned from."""
        inside = labels < self.sizes
        at = self.starts + labels.where(inside, 0)
        return at, inside & self.seen[at]

    def see(self, labels: Tensor) -> None:
        """From now on these labels alone, (V, F) within the sizes, are learned from."""
        self.seen.zero_()
        self.seen[(self.starts + labels).flatten()] = True

    def forward(self, labels: Tensor) -> Tensor:
        """(V, W); zeros where there are no columns."""
        if not labels.numel():  # the table takes part all the same, as several processes wait for its gradient
            return self.table.new_zeros(len(labels), self.table.shape[1]) + 0 * self.table.sum()
        at, known = self.positions(labels)
        return functional.embedding_bag(at, self.table, mode="sum", per_sample_weights=known.to(self.table.dtype))


class _RootNorm(nn.Module):
    """Batch normalisation by mean and variance of the roots."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.mean: Tensor
        self.variance: Tensor

    def forward(self, nodes: Tensor, is_root: Tensor) -> Tensor:
        mean, variance = self.mean, self.variance
        if self.training and (n := int(is_root.sum())):
            roots = nodes[is_root]
            mean, variance = roots.mean(0), roots.var(0, correction=0)
            with torch.no_grad():
                self.mean.lerp_(mean.to(self.mean), _MOMENTUM)
                self.variance.lerp_((variance * n / max(n - 1, 1)).to(self.variance), _MOMENTUM)
        return (nodes - mean) * (variance + _EPSILON).rsqrt() * self.weight + self.bias


class _EachNode(nn.Module):
    """A normalisation to which roots are as any other node."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, nodes: Tensor, is_root: Tensor) -> Tensor:
        return self.norm(nodes)


class GraphNetwork(nn.Module):
    """From a `GraphBatch` to (G, K) logits."""

    def __init__(self, name: str, columns: Columns, n_classes: int, network: Network) -> None:
        super().__init__()
        width = network.hidden
        build: Any = getattr(load_method("trainers.graph_nets", name, key="net"), name)
        bare = not columns.node and not columns.n_features
        self.labels = LabelEmbedding([1] if bare else columns.node, width)
        self.features = nn.Linear(columns.n_features, width) if columns.n_features else None
        self.layers = nn.ModuleList(build(width) for _ in range(network.layers))
        self.edges = nn.ModuleList(LabelEmbedding(columns.edge, width) for _ in range(network.layers))
        self.norms = nn.ModuleList(_norm(network.norm, width) for _ in range(network.layers))
        self.head = nn.Linear(width, n_classes)
        self.dropout, self.pool, self.bare = network.dropout, network.pool, bare

    def node_embeddings(self, batch: GraphBatch) -> Tensor:
        """(V, W), after all layers."""
        labels = torch.zeros_like(batch.graph_of_node).unsqueeze(1) if self.bare else batch.node_labels
        nodes = self.labels(labels)
        if self.features is not None:
            nodes = nodes + self.features(batch.node_features)
        last = len(self.layers) - 1
        for i, (layer, edges, norm) in enumerate(zip(self.layers, self.edges, self.norms, strict=True)):
            nodes = norm(layer(nodes, batch, edges(batch.edge_labels)), batch.is_root)
            nodes = functional.dropout(nodes if i == last else nodes.relu(), self.dropout, self.training)
        return nodes

    def forward(self, batch: GraphBatch) -> Tensor:
        """(G, K); a graph without roots is what the head says of 0."""
        roots = self.node_embeddings(batch)[batch.is_root]
        return self.head(
            scatter(roots, batch.graph_of_node[batch.is_root], dim=0, dim_size=batch.n_graphs, reduce=self.pool)
        )

    def see(self, batch: GraphBatch) -> None:
        """From now on the labels of these graphs alone are learned from; all others are 0."""
        if not self.bare:
            self.labels.see(batch.node_labels)
        for edges in self.edges:
            assert isinstance(edges, LabelEmbedding)
            edges.see(batch.edge_labels)


def open_graph_net(name: str, columns: Columns, n_classes: int, network: Network, *, seed: int) -> GraphNetwork:
    """A network with the initial weights of `seed`, on the CPU; torch's global generator is left as it was.

    Raises:
        ParamsError: there is no such net, or it has no such width.
        MissingError: torch_geometric is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GraphNetwork(name, columns, n_classes, network)


def _norm(norm: Norm, width: int) -> nn.Module:
    match norm:
        case "batch":
            return _RootNorm(width)
        case "layer":
            return _EachNode(nn.LayerNorm(width))
        case "none":
            return _EachNode(nn.Identity())
