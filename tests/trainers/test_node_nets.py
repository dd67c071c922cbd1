"""Oracles: layers by dense matrices and by PyTorch Geometric's own; numbering; dense features for sparse ones."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.contracts.errors import ParamsError
from datagen.contracts.node_graphs import NodeGraph, check_node_graph
from datagen.contracts.sparse_rows import SparseRows
from tests.tiny_nodes import tiny_nodes
from trainers.node_nets import Teacher, drop, feature_tensor, open_student, open_teacher

TEACHERS: tuple[Teacher, ...] = ("gat", "gcn", "sage")


def graph_and_edges() -> tuple[NodeGraph, torch.Tensor]:
    graph = check_node_graph(Path("nodes.npz"), tiny_nodes())
    return graph, torch.from_numpy(graph.both_ways())


def teacher_of(name: Teacher, layers: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    return open_teacher(name, 12, 3, layers=layers, hidden=8, dropout=0.5).double().eval()


@pytest.mark.parametrize(("name", "layers"), [*itertools.product(("gcn", "sage"), (1, 3))])
def test_layers_by_dense_matrices(name: Teacher, layers: int):
    """A normalised adjacency matrix with ones on its diagonal, times features times weights, ReLU between."""
    graph, edges = graph_and_edges()
    net = teacher_of(name, layers)
    joined = torch.eye(72, dtype=torch.float64)
    joined[edges[1], edges[0]] = 1
    degrees = joined.sum(dim=1)
    spread = joined / degrees[:, None] if name == "sage" else joined / (degrees[:, None] * degrees).sqrt()
    nodes = torch.from_numpy(graph.features.dense()).double()
    weights = [one.detach() for one in net.parameters()]
    matrices, biases = [one for one in weights if one.ndim == 2], [one for one in weights if one.ndim == 1]
    for i, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        nodes = spread @ nodes @ matrix.T + bias
        nodes = nodes.relu() if i + 1 < layers else nodes
    found = net(torch.from_numpy(graph.features.dense()).double(), edges)
    assert torch.allclose(found, nodes, rtol=0, atol=1e-12)


def test_sage_is_the_layer_of_pytorch_geometric():
    """SAGEConv with its mean, on edges with self-loops, and no other weight of the node's own."""
    from torch_geometric.nn import SAGEConv
    from torch_geometric.utils import add_self_loops

    graph, edges = graph_and_edges()
    net = teacher_of("sage", 1)
    theirs = SAGEConv(12, 3, aggr="mean", root_weight=False).double()
    weight, bias = net.parameters()
    theirs.load_state_dict({"lin_l.weight": weight, "lin_l.bias": bias})
    nodes = torch.from_numpy(graph.features.dense()).double()
    expected = theirs(nodes, add_self_loops(edges, num_nodes=72)[0])
    assert torch.allclose(net(nodes, edges), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TEACHERS)
def test_numbering_changes_nothing(name: Teacher):
    """Each network anew, as gcn keeps the normalisation of the graph that it sees first."""
    graph, edges = graph_and_edges()
    order = np.random.default_rng(0).permutation(72)
    moved = graph.permuted(order)
    expected = teacher_of(name)(torch.from_numpy(graph.features.dense()).double(), edges)
    found = teacher_of(name)(
        torch.from_numpy(moved.features.dense()).double(), torch.from_numpy(moved.both_ways())
    )  # fmt: skip
    assert torch.allclose(found, expected[torch.from_numpy(order)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*TEACHERS, "student"])
def test_sparse_features_are_dense_ones(name: str):
    """Logits and gradients of every weight."""
    graph, edges = graph_and_edges()
    dense = torch.from_numpy(graph.features.dense())
    sparse = dense.to_sparse_csr()
    found: list[list[torch.Tensor]] = []
    for features in (dense, sparse):
        torch.manual_seed(0)
        if name == "student":
            net = open_student(12, 3, layers=2, hidden=8, dropout=0.5).eval()
            logits = net(features)
        else:
            net = open_teacher(name, 12, 3, layers=2, hidden=8, dropout=0.5).eval()  # type: ignore[arg-type]  # a test's
            logits = net(features, edges)
        logits.square().sum().backward()
        gradients = [one.grad for one in net.parameters()]
        assert all(one is not None for one in gradients)
        found.append([logits.detach(), *(one for one in gradients if one is not None)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_features_are_sparse_where_little_is_not_nought():
    rows = np.zeros((4, 10), dtype=np.float32)
    rows[0, :9] = 1
    assert feature_tensor(SparseRows.of(rows)).layout == torch.sparse_csr
    assert torch.equal(feature_tensor(SparseRows.of(rows)).to_dense(), torch.from_numpy(rows))
    rows[1, 0] = 2
    assert feature_tensor(SparseRows.of(rows)).layout == torch.strided


def test_dropout_of_sparse_features_keeps_their_mean():
    """A number is kept with the share 1 - p and grows by its inverse, or is 0; nothing else changes, nor in use."""
    rows = SparseRows.of(np.tile(np.array([1, 0, 0, 2, 0, 0, 0, 0], dtype=np.float32), (5000, 1)))
    sparse = feature_tensor(rows)
    torch.manual_seed(0)
    dropped = drop(sparse, 0.25, training=True).to_dense()
    assert sorted(dropped[:, 0].unique().tolist()) == pytest.approx([0, 4 / 3])
    assert dropped[:, 0].mean().item() == pytest.approx(1, abs=0.03)
    assert dropped[:, 3].mean().item() == pytest.approx(2, abs=0.06)
    assert not dropped[:, [1, 2, 4, 5, 6, 7]].any()
    assert drop(sparse, 0.25, training=False) is sparse


def test_dropout_stands_where_the_code_has_it():
    """Of hidden layers while training, never in use; one layer of gcn, sage or the MLP has none, of gat its input."""
    graph, edges = graph_and_edges()
    nodes = torch.from_numpy(graph.features.dense())
    nets: list[tuple[torch.nn.Module, tuple[torch.Tensor, ...], bool]] = [
        (
            open_teacher(name, 12, 3, layers=1, hidden=8, dropout=0.5, attention_dropout=0.0),
            (nodes, edges),
            name == "gat",
        )
        for name in TEACHERS
    ]
    for net, sees, is_noisy in [*nets, (open_student(12, 3, layers=1, hidden=8, dropout=0.5), (nodes,), False)]:
        assert torch.equal(net.train()(*sees), net(*sees)) != is_noisy
        assert torch.equal(net.eval()(*sees), net(*sees))


def test_heads_share_the_hidden_units():
    with pytest.raises(ParamsError, match=r"gat shares it among 4 heads.*got 10"):
        open_teacher("gat", 12, 3, layers=2, hidden=10, dropout=0.5)
