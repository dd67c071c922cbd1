"""Oracles: graphs written out by hand, `datasets` as a reader of what is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.graph_folders import GraphColumns
from datagen.contracts.graphs import (
    GraphSet,
    check_graph_classes,
    graphs_of,
    iterate_graphs,
    joined,
    label_by_degree,
    read_graphs,
)
from datagen.contracts.records import Prompt
from tests.labelled_graphs import write_graphs
from tests.tiny_graphs import assert_same, graph_set, random_graphs

TRIANGLE, PATH, POINT = (3, [(0, 1), (1, 2), (2, 0)]), (3, [(0, 1), (1, 2)]), (1, [])


@pytest.mark.parametrize(
    "graphs",
    [
        graph_set([TRIANGLE, POINT, PATH], node_labels=[1, 2, 300, 0, 5, 5, 7], edge_labels=[1, 0, 2, 1, 1]),
        graph_set([POINT, POINT], node_features=[[0.5, -1], [2, 3]]),
        graph_set([POINT, POINT], node_labels=[0, 1], edge_labels=[]),
        graph_set([TRIANGLE, PATH]),
        graph_set([(2, [(0, 0), (0, 1), (0, 1)])], undirected=False),
        random_graphs(40, 0),
    ],
)
@pytest.mark.parametrize("n", [1, 3, 1000])
def test_what_is_written_is_read_all_at_once_or_some_at_a_time(tmp_path: Path, graphs: GraphSet, n: int):
    out = write_graphs(tmp_path / "out", graphs)
    assert_same(read_graphs(out), graphs)
    some = list(iterate_graphs(out, n))
    assert max(map(len, some)) <= n and len(some) >= len(graphs) / n
    assert_same(joined(some), graphs)


def test_a_row_by_hand_as_other_readers_see_it(tmp_path: Path):
    graphs = graph_set([POINT, PATH], node_labels=[4, 5, 6, 7], edge_labels=[1, 0])
    files = str(write_graphs(tmp_path / "out", graphs) / "part-*.parquet")
    rows: Any = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[1] == {
        "id": "tiny-1", "label": 1, "n_nodes": 3, "sources": [0, 1, 1, 2], "targets": [1, 0, 2, 1],
        "node_labels": [[5], [6], [7]], "edge_labels": [[1], [1], [0], [0]], "node_features": [[], [], []],
    }  # fmt: skip


def test_take_by_hand():
    """The path twice, then the point; names are each once."""
    graphs = graph_set([TRIANGLE, POINT, PATH], node_labels=[1, 2, 3, 4, 5, 6, 7], edge_labels=[9, 8, 7, 6, 5])
    taken = graphs.take(np.array([2, 2, 1]))
    wanted = graph_set(
        [PATH, PATH, POINT], node_labels=[5, 6, 7, 5, 6, 7, 4], edge_labels=[6, 5, 6, 5], labels=[0, 0, 1]
    )
    assert_same(taken, replace(wanted, ids=["tiny-2", "tiny-2#2", "tiny-1"]))


def test_degrees_by_hand():
    """A self-loop is one edge that leads to its node, an edge twice is two, and one of one direction leads one way."""
    graphs = graph_set([(3, [(0, 0), (0, 1), (0, 1), (1, 2)]), POINT], undirected=False)
    assert graphs.degrees.tolist() == [1, 2, 1, 0]
    assert label_by_degree(graphs).node_labels.tolist() == [[1], [2], [1], [0]]


def columns(**others: Any) -> GraphColumns:
    """Two nodes with an edge and a point."""
    given: dict[str, Any] = {
        "n_nodes": np.array([2, 1]), "n_edges": np.array([1, 0]), "edges": np.array([[0], [1]]),
        "node_labels": np.array([[0], [1], [2]]), "edge_labels": np.zeros((1, 0), np.int64),
        "node_features": np.zeros((3, 0)), "labels": np.array([0, 1]), "ids": ["a", "b"], "classes": ["x", "y"],
    }  # fmt: skip
    return GraphColumns(**given | others)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"n_nodes": np.array([3, 0])}, "graph 'b' has no node; leave it out"),
        ({"n_nodes": np.zeros(0, np.int64)}, "holds no graph"),
        ({"edges": np.array([[0], [2]])}, "edge 1: from node 0 to node 2 of graph 'a', whose nodes run from 0 to 1"),
        ({"edges": np.array([[-1], [0]])}, "edge 1: from node -1 to node 0 of graph 'a'"),
        ({"node_labels": np.array([[0], [1]])}, "2 rows of node labels; the graphs' own counts say 3"),
        ({"edge_labels": np.zeros((2, 1), np.int64)}, "2 rows of edge labels; the graphs' own counts say 1"),
        ({"n_edges": np.array([1, 1])}, "1 rows of edges; the graphs' own counts say 2"),
        ({"labels": np.array([0])}, "1 rows of labels; the graphs' own counts say 2"),
        ({"labels": np.array([0, 2])}, "labels run from 0 to 2; there are 2 classes"),
        ({"node_labels": np.array([[0], [1], [-2]])}, "a node label is -2; count them from 0"),
        ({"node_features": np.array([[0.0], [1], [np.nan]])}, "a node of graph 'b' has a feature that is NaN"),
        ({"node_features": np.array([[0.0], [1e39], [0]])}, "a node of graph 'a' has a feature that is NaN, infinite"),
    ],
)
def test_what_is_no_graph_set(others: dict[str, Any], said: str):
    assert len(graphs_of(Path("somewhere"), columns())) == 2
    with pytest.raises(DataError, match=f"^somewhere: .*{said}"):
        graphs_of(Path("somewhere"), columns(**others))


def test_a_class_with_too_few_graphs():
    graphs = graph_set([POINT, POINT, POINT])
    check_graph_classes(graphs, Path("set"), 1)
    with pytest.raises(DataError, match="set: class 'class 1' has 1 graphs and needs 2"):
        check_graph_classes(graphs, Path("set"), 2)


def test_what_is_read_is_a_graph_set(tmp_path: Path):
    with pytest.raises(DataError, match="none: no graph set; give what `datastill graphs` wrote"):
        read_graphs(tmp_path / "none")
    with DatasetWriter(tmp_path / "prompts", Prompt, {}):
        pass
    with pytest.raises(DataError, match="prompts: holds Prompt rows"):
        read_graphs(tmp_path / "prompts")
    with pytest.raises(DataError, match="empty: holds no graph"):
        read_graphs(write_graphs(tmp_path / "empty", random_graphs(1, 0).take(np.zeros(0, np.int64))))
