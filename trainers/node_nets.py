"""Networks that classify nodes: teachers that see the graph, and the MLP that does not.

Layers are those of PyTorch Geometric: Kipf, Welling. 2016. arXiv:1609.02907 (gcn); Velickovic et al. 2017.
arXiv:1710.10903 (gat); Hamilton, Ying, Leskovec. 2017. arXiv:1706.02216 (sage, with its "gcn" aggregator: the mean over
a node and its neighbours). Dropout stands where the code of FF-G2M (arXiv:2305.10758) has it: after each hidden layer,
and for gat before each layer, the first too, and on its attention. Departure: that code counts a node twice in sage's
mean, once as its own neighbour.

Axes: V nodes, E directed edges, D features, H hidden units, C classes.
"""

import warnings
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from datagen.contracts.errors import ParamsError
from datagen.contracts.sparse_rows import SparseRows

Teacher = Literal["gat", "gcn", "sage"]
DENSE_FROM = 0.25  # share of numbers other than 0 from which a matrix of features is held as a whole


def feature_tensor(rows: SparseRows, device: str | torch.device = "cpu") -> Tensor:
    """(V, D) float32: compressed sparse rows, or dense where much is not 0."""
    if rows.density >= DENSE_FROM:
        return torch.from_numpy(rows.dense()).to(device)
    places = (rows.offsets.astype(np.int32), rows.columns.astype(np.int32))  # as MKL takes them
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            *(torch.from_numpy(np.ascontiguousarray(one)) for one in (*places, rows.values)),
            size=(len(rows), rows.n_columns), check_invariants=True,
        ).to(device)  # fmt: skip


def open_student(n_features: int, n_classes: int, *, layers: int, hidden: int, dropout: float) -> nn.Module:
    """An MLP of `layers` linear maps, from (V, D), dense or sparse, to logits (V, C)."""
    return Mlp(_widths(n_features, n_classes, layers, hidden), dropout)


def open_teacher(
    name: Teacher,
    n_features: int,
    n_classes: int,
    *,
    layers: int,
    hidden: int,
    dropout: float,
    heads: int = 4,
    attention_dropout: float = 0.3,
) -> nn.Module:
    """A graph network of `layers` layers, from (V, D), dense or sparse, and (2, E) edges, both ways, to logits (V, C).

    Args:
        name: of the layers.
        n_features: D.
        n_classes: C.
        layers: 1 or more.
        hidden: H; for gat that of all heads together.
        dropout: see the module.
        heads: of gat, but for its last layer, which has one.
        attention_dropout: of gat.

    Raises:
        ParamsError: `hidden` is not a multiple of `heads`.
    """
    widths = _widths(n_features, n_classes, layers, hidden)
    if name == "gat":
        if hidden % heads:
            raise ParamsError(f"hidden: gat shares it among {heads} heads; give a multiple of that (got {hidden})")
        return Gat(widths, dropout, heads, attention_dropout)
    return Convolutions(name, widths, dropout)


class Mlp(nn.Module):
    """Linear maps with ReLU and dropout between them."""

    def __init__(self, widths: list[int], dropout: float) -> None:
        """`widths` from D to C."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*two) for two in pairwise(widths))
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """Logits (V, C)."""
        nodes = features
        for i, layer in enumerate(self.layers):
            nodes = layer(nodes)
            if i + 1 < len(self.layers):
                nodes = drop(nodes.relu(), self.dropout, training=self.training)
        return nodes


class Convolutions(nn.Module):
    """gcn or sage: a linear map, then a weighted mean over the neighbours, ReLU and dropout between layers."""

    def __init__(self, name: Teacher, widths: list[int], dropout: float) -> None:
        """`widths` from D to C."""
        from torch_geometric.nn import GCNConv

        super().__init__()
        pairs = list(pairwise(widths))
        layers = [GCNConv(*two, cached=True) for two in pairs] if name == "gcn" else [_Mean(*two) for two in pairs]
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """Logits (V, C); a network sees one graph in its life, whose normalisation it keeps."""
        nodes = features
        for i, layer in enumerate(self.layers):
            nodes = layer(nodes, edges)
            if i + 1 < len(self.layers):
                nodes = drop(nodes.relu(), self.dropout, training=self.training)
        return nodes


class _Mean(nn.Module):
    """PyG's SAGEConv on edges with self-loops, without a weight of the node's own.

    The linear map comes first, as it commutes with the mean: sparse features stay sparse until then.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        from torch_geometric.nn import SimpleConv

        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.mean = SimpleConv(aggr="mean", combine_root="self_loop")

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        return self.mean(self.linear(nodes), edges)


class Gat(nn.Module):
    """Attention over a node and its neighbours; the heads' outputs end to end, ReLU between layers."""

    def __init__(self, widths: list[int], dropout: float, heads: int, attention_dropout: float) -> None:
        """`widths` from D to C."""
        from torch_geometric.nn import GATConv

        super().__init__()
        *hidden, last = pairwise(widths)
        layers = [GATConv(one, two // heads, heads, dropout=attention_dropout) for one, two in hidden]
        self.layers = nn.ModuleList([*layers, GATConv(*last, heads=1, dropout=attention_dropout)])
        self.dropout = dropout

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """Logits (V, C)."""
        nodes = features
        for i, layer in enumerate(self.layers):
            nodes = layer(drop(nodes, self.dropout, training=self.training), edges)
            if i + 1 < len(self.layers):
                nodes = nodes.relu()
        return nodes


def drop(features: Tensor, dropout: float, *, training: bool) -> Tensor:
    """Dropout of a dense or sparse matrix: dropping a 0 changes nothing, so the numbers that are held suffice.

    By uniform numbers, which on a CPU are drawn in a quarter of the time of torch's own dropout, by Bernoulli's.
    """
    if not training or not dropout:
        return features
    if features.layout == torch.strided:
        return features * (torch.rand_like(features) >= dropout) / (1 - dropout)
    values = drop(features.values(), dropout, training=training)
    return torch.sparse_csr_tensor(
        features.crow_indices(), features.col_indices(), values, size=features.shape, check_invariants=False
    )


def _widths(n_features: int, n_classes: int, layers: int, hidden: int) -> list[int]:
    return [n_features, *[hidden] * (layers - 1), n_classes]
