"""Oracles: torch's batch normalisation, sums by hand, graphs one by one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from datagen.contracts.errors import ParamsError
from tests.labelled_graphs import computation_trees, graph_set, labelled_graphs
from trainers.graph_batches import columns_of, tensors_of
from trainers.graph_nets.opening import Columns, GraphNetwork, LabelEmbedding, open_graph_net
from trainers.graph_steps import Network

NETS = ("gat", "gcn", "gin", "sage")


def opened(name: str, seed: int = 0, **settings: Any) -> GraphNetwork:
    network = Network(**{"hidden": 8, "layers": 2, "dropout": 0.5, "norm": "batch", "pool": "mean", **settings})
    return open_graph_net(name, columns_of(labelled_graphs(8)), 2, network, seed=seed).eval()


def test_columns_are_added_up():
    """By hand, row by row of the table."""
    embedding = LabelEmbedding([3, 2], 4)
    found = embedding(torch.tensor([[0, 0], [2, 1]]))
    assert torch.allclose(found, torch.stack([embedding.table[0] + embedding.table[3], embedding.table[[2, 4]].sum(0)]))


def test_what_was_not_learned_from_adds_nothing():
    """A label that was not seen, and one beyond the table; it gets no gradient either."""
    embedding = LabelEmbedding([3, 2], 4)
    embedding.see(torch.tensor([[0, 1], [2, 1]]))
    found = embedding(torch.tensor([[1, 1], [7, 1], [2, 0], [5, 9]]))
    expected = torch.stack([embedding.table[4], embedding.table[4], embedding.table[2], torch.zeros(4)])
    assert torch.allclose(found, expected)
    found.sum().backward()
    assert embedding.table.grad is not None
    assert embedding.table.grad.sum(dim=1).tolist() == [0, 0, 4, 0, 8]


@pytest.mark.parametrize("name", NETS)
def test_batches_are_graphs_one_by_one(name: str):
    """Whatever their order, and for a graph that comes twice."""
    graphs = tensors_of(labelled_graphs(8))
    net, at = opened(name), torch.tensor([5, 0, 7, 5, 2])
    with torch.no_grad():
        alone = torch.cat([net(graphs.batch(at[i : i + 1])) for i in range(len(at))])
        assert torch.allclose(net(graphs.batch(at)), alone, atol=1e-6)
    assert alone.std(dim=0).min() > 1e-3


@pytest.mark.parametrize("name", NETS)
def test_the_order_of_nodes_and_edges_changes_nothing(name: str):
    """One graph, its nodes numbered anew and its edges shuffled."""
    edges = [(0, 1, 0), (1, 0, 0), (1, 2, 2), (2, 1, 2), (3, 3, 1), (0, 2, 1), (0, 2, 1)]
    labels, order = [0, 3, 1, 2], [2, 0, 3, 1]
    moved = [(order[s], order[t], mark) for s, t, mark in reversed(edges)]
    new = [labels[order.index(i)] for i in range(4)]
    both = tensors_of(graph_set([4, 4], [edges, moved], [labels, new], [0, 0]))
    with torch.no_grad():
        first, second = opened(name)(both.all())
    assert torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize(("pool", "scale"), [("mean", 1), ("sum", 3)])
def test_roots_alone_are_pooled(pool: str, scale: int):
    """Trees of a graph's three nodes: mean or sum of the roots' embeddings, then the head."""
    graphs = graph_set([3], [[(0, 1, 0), (1, 2, 1)]], [[0, 1, 2]], [0])
    trees = tensors_of(computation_trees(graphs, 2, degrees=True)).all()
    net = opened("gin", pool=pool)
    with torch.no_grad():
        roots = net.node_embeddings(trees)[trees.is_root]
        assert len(roots) == 3 < len(trees.is_root)
        assert torch.allclose(net(trees)[0], net.head(scale * roots.mean(dim=0)), atol=1e-6)


def test_batch_normalisation_is_torch_s_where_all_nodes_are_roots():
    """In training and after it; with trees, mean and variance are those of the roots."""
    net = opened("sage", layers=1, dropout=0.0).train()
    theirs = torch.nn.BatchNorm1d(8)
    batch = tensors_of(labelled_graphs(8)).all()
    raw = torch.zeros(0)
    for _ in range(3):
        raw = net.layers[0](net.labels(batch.node_labels), batch, net.edges[0](batch.edge_labels))
        assert torch.allclose(net.node_embeddings(batch), theirs(raw), atol=1e-5)
    assert torch.allclose(net.eval().node_embeddings(batch), theirs.eval()(raw), atol=1e-5)
    net.train()
    half = replace(batch, is_root=torch.arange(len(batch.is_root)) % 2 == 0)
    mean = net.node_embeddings(half)[half.is_root].mean(dim=0)
    assert torch.allclose(mean, torch.zeros(8), atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_an_empty_graph_and_an_edgeless_one_have_logits(norm: str):
    """The first's are the head of 0."""
    graphs = tensors_of(graph_set([0, 2], [[], []], [[], [1, 3]], [0, 1]))
    for name in NETS:
        net = opened(name, norm=norm)
        with torch.no_grad():
            found = net(graphs.all())
        assert torch.allclose(found[0], net.head.bias) and found.isfinite().all()


def test_without_labels_nodes_begin_as_one_vector_and_features_are_read():
    """The centre of a star and the nodes of a ring differ by their neighbours alone."""
    graphs = graph_set([3], [[(0, 1, 0), (1, 0, 0)]], [[0, 1, 2]], [0])
    bare = replace(graphs, node_labels=np.zeros((3, 0), np.int64), edge_labels=np.zeros((2, 0), np.int64))
    network = Network(hidden=8, layers=1, dropout=0.0, norm="none")
    net = open_graph_net("gin", columns_of(bare), 2, network, seed=0).eval()
    with torch.no_grad():
        found = net.node_embeddings(tensors_of(bare).all())
    assert torch.allclose(found[0], found[1]) and not torch.allclose(found[0], found[2])
    features = replace(bare, node_features=np.eye(3, 2, dtype=np.float32))
    net = open_graph_net("gin", columns_of(features), 2, network, seed=0).eval()
    with torch.no_grad():
        found = net.node_embeddings(tensors_of(features).all())
    assert not torch.allclose(found[0], found[1])


def test_weights_are_those_of_the_seed_and_torch_s_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (opened("gcn", seed=seed) for seed in (1, 1, 2))
    assert torch.rand(1) == before
    one, two, three = (torch.cat([p.flatten() for p in net.parameters()]) for net in (first, again, other))
    assert torch.equal(one, two) and not torch.equal(one, three)


def test_a_net_that_is_not_there_is_named():
    columns = Columns(node=[1], edge=[], n_features=0)
    with pytest.raises(ParamsError, match=r"net: no 'gcnn' in trainers.graph_nets; there are gat, gcn, gin, sage"):
        open_graph_net("gcnn", columns, 2, Network(hidden=8, layers=1, dropout=0.0), seed=0)
