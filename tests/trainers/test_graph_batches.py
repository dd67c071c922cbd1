"""Oracles: GraphSet.take, labels by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condense.condensed_graphs import as_condensed
from datagen.contracts.errors import DataError
from tests.labelled_graphs import computation_trees, graph_set, labelled_graphs
from trainers.graph_batches import as_learned, check_fits, columns_of, count_unseen, graphs_as_bytes, tensors_of


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.mark.parametrize("chosen", [[0], [3, 1, 1, 6], list(range(7)), []])
def test_a_batch_is_what_is_taken(chosen: list[int]):
    graphs = labelled_graphs(7, directed=True)
    found = tensors_of(graphs).batch(torch.tensor(chosen, dtype=torch.int64))
    taken = graphs.take(np.array(chosen, dtype=np.int64))
    assert found.n_graphs == len(taken)
    for name in ("edges", "node_labels", "edge_labels", "labels"):
        assert getattr(found, name).tolist() == getattr(taken, name).tolist()
    assert found.graph_of_node.tolist() == taken.graph_of_node.tolist()
    assert found.degrees.tolist() == np.bincount(taken.edges[1], minlength=taken.n_nodes).tolist()
    assert found.is_root.all()


def test_what_a_condensed_set_says_of_its_nodes_comes_along():
    trees = computation_trees(labelled_graphs(3), 1, degrees=True)
    assert trees.degrees is not None
    start, end = trees.graphs.node_offsets[1:3]
    found = tensors_of(trees).batch(torch.tensor([1]))
    assert found.is_root.tolist() == trees.is_root[start:end].tolist()
    assert found.degrees.tolist() == trees.degrees[start:end].tolist()
    alone = tensors_of(replace(trees, degrees=None)).batch(torch.tensor([1]))
    assert alone.degrees.tolist() != found.degrees.tolist(), "leaves have no neighbours in a tree"


def test_columns_hold_every_label():
    graphs = graph_set([2], [[(0, 1, 2)]], [[1, 3]], [0])
    columns = columns_of(graphs)
    assert (list(columns.node), list(columns.edge), columns.n_features) == ([4, 2], [3], 0)


def test_labels_that_nobody_learned_from_are_counted():
    """By hand: 3 and 4 in the first column, 4 * 4 % 3 = 1 is seen in the second; the edge label 2."""
    learned = graph_set([3], [[(0, 1, 0), (1, 2, 1)]], [[0, 1, 2]], [0])
    judged = graph_set([4], [[(0, 1, 2), (1, 0, 2), (2, 3, 1)]], [[3, 4, 4, 1]], [0])
    assert count_unseen(judged, learned) == {"node_values": 2, "nodes": 3, "edge_values": 1, "edges": 2}
    assert not any(count_unseen(learned, learned).values())


def test_equal_graphs_have_equal_bytes_whatever_their_label():
    graphs = labelled_graphs(4)
    twice = graphs.take(np.array([2, 0, 2]))
    first, second, again = (one.tobytes() for one in graphs_as_bytes(replace(twice, labels=np.array([0, 1, 1]))))
    assert first == again != second


def test_graphs_go_through_the_codebook_of_the_set():
    """Nearest rows by hand."""
    graphs = replace(labelled_graphs(2), node_features=np.zeros((0, 0), np.float32))
    n = graphs.n_nodes
    graphs = replace(graphs, node_features=np.linspace(0, 1, n, dtype=np.float32)[:, None])
    learned = as_condensed(graphs, codebook=np.array([[0.0], [1.0]], dtype=np.float32))
    found = as_learned(graphs, learned)
    assert found.node_labels[:, -1].tolist() == [int(i > (n - 1) / 2) for i in range(n)]
    assert found.node_features.shape[1] == 0


def test_graphs_of_other_columns_or_classes_are_refused():
    graphs = labelled_graphs(4)
    for other, says in (
        (replace(graphs, classes=["yes", "no"]), "its classes are yes, no, those of the training graphs no, yes"),
        (replace(graphs, node_labels=graphs.node_labels[:, :1]), "has 1 columns of node_labels, the training graphs 2"),
        (graphs.take(np.zeros(0, np.int64)), "holds no graph to judge students on"),
    ):
        with pytest.raises(DataError, match=says):
            check_fits(other, Path("graphs"), graphs)
