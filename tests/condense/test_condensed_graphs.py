"""Oracles: bytes and arrays by hand, drawn graphs read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from condense.condensed_graphs import (
    FILE,
    CondensedGraphs,
    arrays_of,
    as_condensed,
    count_bytes,
    count_bytes_of_all,
    is_condensed_graphs,
    paper_bytes,
    read_condensed_graphs,
    write_condensed_graphs,
)
from datagen.contracts.dataset import read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.graphs import GraphSet, read_graphs
from tests.tiny_graphs import assert_same, graph_set, random_graphs

PATH = (3, [(0, 1), (1, 2)])
TREE = (3, [(1, 0), (2, 0)])  # from child to parent


def trees() -> CondensedGraphs:
    """A root with two children, and a point; they stand for 300 graphs and for 2."""
    return CondensedGraphs(
        graphs=graph_set([TREE, (1, [])], node_labels=[1, 2, 300, 4], edge_labels=[1, 0], undirected=False),
        is_root=np.array([True, False, False, True]),
        weights=np.array([300, 2], np.float32),
        degrees=np.array([2, 5, 1, 0]),
    )


def test_bytes_of_trees_by_hand():
    """2 sizes, 4 out-degrees, 2 targets, a flag; 2 classes; 4 labels of 2 bytes, 2 of edges; 4 bits; 2 weights of 2."""
    assert count_bytes(trees()) == {
        "structure": 2 + 4 + 2 + 1, "labels": 2, "features": 8 + 2, "roots": 1, "weights": 4, "degrees": 4,
        "codebook": 0, "total": 30,
    }  # fmt: skip
    held = {name: array.tolist() for name, array in arrays_of(trees()).items()}
    assert held["out_degrees"] == [0, 1, 1, 0] and held["targets"] == [0, 0] and held["is_undirected"] == [0]
    assert held["edge_labels"] == [[1], [0]] and held["is_root"] == [0b10010000]


def test_bytes_of_real_graphs_by_hand():
    """Of the two directions one is stored; what all graphs have, roots and weight 1, takes nothing."""
    graphs = graph_set([PATH, PATH], node_labels=[1, 2, 3, 4, 5, 6], edge_labels=[1, 0, 2, 2])
    counts = count_bytes(graphs)
    assert counts == count_bytes(as_condensed(graphs))
    assert counts == {"structure": 2 + 6 + 4 + 1, "labels": 2, "features": 6 + 4, "roots": 0, "weights": 0,
                      "degrees": 0, "codebook": 0, "total": 25}  # fmt: skip
    other = graphs.edge_labels.copy()
    other[0] = 7  # the reverse keeps its label, so both directions are stored
    assert count_bytes(replace(graphs, edge_labels=other))["total"] == 25 + 4 + 4
    wider = np.array([[0.5, 1]] * 6, np.float32)
    codes = replace(as_condensed(replace(graphs, node_features=wider)), codebook=np.zeros((3, 2), np.float32))
    assert count_bytes(codes)["total"] == 25 + 6 * 2 * 4 + 3 * 2 * 4


def test_mirage_s_own_count():
    """Its patterns of ogbg-molbace: 439 nodes of 9 numbers, 412 edges of 3 and their two ends are 6,011 bytes."""
    edges = [(i + 1, i) for i in range(412)]
    graphs = graph_set([(439, edges)], undirected=False, labels=[1])
    graphs = replace(graphs, node_labels=np.zeros((439, 9), np.int64), edge_labels=np.zeros((412, 3), np.int64))
    assert paper_bytes(graphs) == paper_bytes(as_condensed(graphs)) == 6011


@pytest.mark.parametrize("undirected", [True, False])
def test_drawn_graphs_are_read_as_they_were(tmp_path: Path, undirected: bool):
    graphs = random_graphs(60, 3)
    if not undirected:
        graphs = replace(graphs, edges=graphs.edges.copy())
        graphs.edges[:, 0] = graphs.edges[0, 0]
    counts = write_condensed_graphs(tmp_path / "out", as_condensed(graphs), {"stage": "test"})
    found = read_condensed_graphs(tmp_path / "out")
    assert_same(found.graphs, graphs)
    assert found.is_root.all() and (found.weights == 1).all() and found.degrees is None and found.codebook is None
    assert_same(read_graphs(tmp_path / "out"), graphs)
    assert counts == count_bytes(found) == count_bytes(graphs)
    assert bool(arrays_of(found)["is_undirected"][0]) == undirected


def test_loops_and_repeated_edges_are_read_as_they_were(tmp_path: Path):
    """Undirected, with a self-loop once and an edge twice, and its directed half."""
    half = graph_set([(2, [(0, 1), (0, 1)])], labels=[1], undirected=False)
    whole = graph_set([(2, [(0, 1), (0, 1)])], labels=[1])
    for name, graphs in {"half": half, "whole": whole}.items():
        loop = replace(
            graphs,
            edges=np.concatenate([graphs.edges, [[1], [1]]], axis=1),
            edge_offsets=graphs.edge_offsets + np.array([0, 1]),
            edge_labels=np.zeros((graphs.edges.shape[1] + 1, 0), np.int64),
        )
        write_condensed_graphs(tmp_path / name, as_condensed(loop), {})
        assert_same(read_condensed_graphs(tmp_path / name).graphs, loop)
    assert read_manifest(tmp_path / "half")["size_bytes"] == read_manifest(tmp_path / "whole")["size_bytes"]


@pytest.mark.parametrize("weights", [[300, 2], [0.25, 2]])
def test_trees_are_read_as_they_were(tmp_path: Path, weights: list[float]):
    codebook = np.linspace(0, 1, 301, dtype=np.float32)[:, None]
    made = replace(trees(), weights=np.array(weights, np.float32), codebook=codebook)
    write_condensed_graphs(tmp_path / "out", made, {})
    found = read_condensed_graphs(tmp_path / "out")
    assert_same(found.graphs, made.graphs)
    for name in ("is_root", "weights", "degrees", "codebook"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    assert found.weights.dtype == np.float32 and found.is_root.dtype == np.bool_


def test_the_manifest_says_the_size(tmp_path: Path):
    write_condensed_graphs(tmp_path / "out", trees(), {"method": "mine"})
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["size_bytes"], manifest["paper_bytes"], manifest["method"]) == (30, 4 + 2 * 3, "mine")
    assert manifest["columns"] == {"node_labels": 1, "edge_labels": 1, "node_features": 0}
    assert manifest["classes"] == ["class 0", "class 1"]


def test_equal_sets_give_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_condensed_graphs(tmp_path / name, trees(), {})
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == ["condensed_graphs.safetensors", "manifest.json", "part-00000.parquet", "rejections.parquet"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


@pytest.mark.parametrize("cuts", [[10], [1, 30, 59], []])
@pytest.mark.parametrize("kind", ["undirected", "directed", "large", "features"])
def test_bytes_counted_some_at_a_time(cuts: list[int], kind: str):
    """Whatever the cuts, also where one graph alone has a directed edge, or a label above 255."""
    graphs = random_graphs(60, 4)
    if kind == "directed":
        graphs.edges[:, -1] = graphs.edges[0, -1]
    if kind == "large":
        graphs.node_labels[-1] = 256
    if kind == "features":
        graphs = replace(graphs, node_features=np.full((graphs.n_nodes, 2), 0.5, np.float32))
    parts = np.split(np.arange(60), cuts)
    assert count_bytes_of_all(graphs.take(part) for part in parts) == count_bytes(graphs)


def test_a_file_cut_short_and_a_folder_without_a_set_are_named(tmp_path: Path):
    write_condensed_graphs(tmp_path / "out", trees(), {})
    file = tmp_path / "out" / "condensed_graphs.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"condensed_graphs.safetensors: cannot be read .*; condense again"):
        read_condensed_graphs(tmp_path / "out")
    file.unlink()
    assert not is_condensed_graphs(tmp_path / "out")
    with pytest.raises(DataError, match="out: no condensed graph set"):
        read_condensed_graphs(tmp_path / "out")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"targets": np.array([0, 3], np.uint8)}, "edge 2: from node 2 to node 3 of graph 'tiny-0', whose nodes run"),
        ({"out_degrees": np.array([0, 0, 1, 0], np.uint8)}, "cannot be read .*; condense again"),
        ({"labels": np.array([0, 2], np.uint8)}, "labels run from 0 to 2; there are 2 classes"),
        ({"node_labels": np.zeros((3, 1), np.uint8)}, "3 rows of node labels; the graphs' own counts say 4"),
        ({"weights": np.array([1, 0], np.uint8)}, r"weights are \[1.0, 0.0\]...; each graph has one above 0"),
        ({"weights": np.array([np.nan, 1], np.float32)}, r"weights are \[nan, 1.0\]"),
        ({"is_root": np.array([0b10000000], np.uint8)}, "graph 'tiny-1' has no root; condense again"),
        ({"degrees": np.array([1, 2], np.uint8)}, "2 degrees for 4 nodes"),
        ({"codebook": np.zeros((2, 1), np.float32)}, r"a codebook of shape \(2, 1\) for codes up to 300"),
    ],
)
def test_numbers_that_cannot_be(tmp_path: Path, others: dict[str, np.ndarray], said: str):
    write_condensed_graphs(tmp_path / "out", trees(), {})
    (tmp_path / "out" / FILE).write_bytes(save(arrays_of(trees()) | others))
    with pytest.raises(DataError, match=rf"condensed_graphs.safetensors: {said}"):
        read_condensed_graphs(tmp_path / "out")


def test_no_edge_at_all(tmp_path: Path):
    points: GraphSet = graph_set([(1, []), (2, [])], node_labels=[0, 1, 2])
    write_condensed_graphs(tmp_path / "out", as_condensed(points), {})
    assert_same(read_condensed_graphs(tmp_path / "out").graphs, points)
