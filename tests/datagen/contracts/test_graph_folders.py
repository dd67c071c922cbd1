"""Oracles: PyTorch Geometric's own reader, files written by hand, SMILES of the molecules, published counts."""

import csv
import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from torch_geometric.datasets import TUDataset

from datagen.contracts.errors import DataError
from datagen.contracts.graph_folders import ogb_split
from datagen.contracts.graphs import read_graphs
from tests.tiny_graphs import assert_same, graph_set, random_graphs, write_tu


def test_a_tu_folder_is_what_pytorch_geometric_reads(tmp_path: Path):
    graphs = random_graphs(30, 1)
    folder = write_tu(tmp_path, graphs)
    found = read_graphs(folder)
    assert [found.ids[0], found.ids[-1], *found.classes] == ["TINY-1", "TINY-30", "0", "1"]
    for g, data in enumerate(TUDataset(str(tmp_path), "TINY")):
        one = found.take(np.array([g]))
        assert len(one.node_labels) == data.num_nodes and one.labels.tolist() == data.y.tolist()
        np.testing.assert_array_equal(one.node_labels[:, 0], data.x.argmax(1))
        mine = sorted(zip(*one.edges.tolist(), one.edge_labels[:, 0].tolist(), strict=True))
        assert mine == sorted(zip(*data.edge_index.tolist(), data.edge_attr.argmax(1).tolist(), strict=True))


def test_lines_of_a_tu_folder_in_any_order(tmp_path: Path):
    """Nodes 1 and 3 are of graph 2, node 2 of graph 1; labels from -1 are counted from 0, those of graphs are names."""
    for part, lines in {
        "A": "1, 3\n2,2\n3, 1\n3, 1\n", "graph_indicator": "2\n1\n2\n", "graph_labels": "5\n-1\n",
        "node_labels": "-1\n3\n0\n", "edge_labels": "4\n5\n6\n7\n", "node_attributes": "0.5, 1\n-2e3, 3\n4, 5\n",
    }.items():  # fmt: skip
        (tmp_path / f"A_SET_{part}.txt").write_text(lines)
    found = read_graphs(tmp_path)
    assert found.ids == ["A_SET-1", "A_SET-2"] and found.classes == ["-1", "5"] and found.labels.tolist() == [1, 0]
    assert found.node_offsets.tolist() == [0, 1, 3] and found.node_labels.tolist() == [[4], [0], [1]]
    assert found.edges.tolist() == [[0, 1, 2, 2], [0, 2, 1, 1]] and found.edge_labels.tolist() == [[5], [4], [6], [7]]
    assert found.node_features.tolist() == [[-2000, 3], [0.5, 1], [4, 5]]


def test_a_set_without_edges_and_labels(tmp_path: Path):
    graphs = graph_set([(1, []), (2, [])])
    found = read_graphs(write_tu(tmp_path, graphs))
    assert found.columns == {"node_labels": 0, "edge_labels": 0, "node_features": 0} and found.edges.shape == (2, 0)
    assert found.node_offsets.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("graph_labels", None, "TINY_graph_labels.txt: no such file"),
        ("A", "1, 2\n2, 1\n2, 5\n", r"TINY_A.txt:3: an edge between nodes 2 and 5; nodes run from 1 to 4"),
        ("A", "1, 2\n3, 0\n", r"TINY_A.txt:2: an edge between nodes 3 and 0; nodes run from 1 to 4"),
        ("A", "1, 3\n", "TINY_A.txt:1: an edge between nodes 1 of graph 1 and 3 of graph 2; both must be of one graph"),
        ("A", "1, 2, 3\n", "TINY_A.txt: has 3 columns; expected 2"),
        ("graph_indicator", "1\n1\n3\n2\n", "graph_indicator.txt:3: graph 3, and TINY_graph_labels.txt has 2 graphs"),
        ("graph_indicator", "1\n1\n1\n1\n", "graph 'TINY-2' has no node; leave it out"),
        ("graph_labels", "1\n2.5\n", "TINY_graph_labels.txt: expected whole numbers .*2.5"),
        ("node_labels", "1\n2\n", "TINY_node_labels.txt: has 2 lines, there are 4 nodes; it needs as many"),
        ("edge_labels", "1\n", "TINY_edge_labels.txt: has 1 lines, there are 4 lines of TINY_A.txt"),
        ("edge_attributes", "0.5\n", "edge_attributes.txt: edges can have whole-number labels alone"),
        ("node_attributes", "0.5\nnan\n1\n2\n", "a node of graph 'TINY-1' has a feature that is NaN"),
        ("node_attributes", "0.5\nx\n1\n2\n", "TINY_node_attributes.txt: expected numbers .*'x'"),
    ],
)
def test_what_a_tu_folder_cannot_hold(tmp_path: Path, part: str, content: str | None, said: str):
    folder = write_tu(tmp_path, graph_set([(2, [(0, 1)]), (2, [(0, 1)])], node_labels=[0, 1, 2, 3]))
    file = folder / "raw" / f"TINY_{part}.txt"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(DataError, match=said):
        read_graphs(folder)


def test_two_sets_in_a_folder(tmp_path: Path):
    write_tu(tmp_path, random_graphs(2, 0)).rename(tmp_path / "set")
    (tmp_path / "set" / "raw" / "OTHER_A.txt").touch()
    with pytest.raises(DataError, match=r"set: expected one file NAME_A.txt, there is OTHER_A.txt, TINY_A.txt"):
        read_graphs(tmp_path / "set")


OGB: Mapping[str, str] = {
    "raw/num-node-list": "2\n1\n3\n", "raw/num-edge-list": "1\n0\n2\n", "raw/edge": "0,1\n0,1\n2,1\n",
    "raw/graph-label": "1\n0\n1\n", "raw/node-feat": "5,0\n6,1\n7,0\n5,0\n5,1\n5,2\n", "raw/edge-feat": "1\n2\n3\n",
    "split/scaffold/train": "2\n0\n", "split/scaffold/valid": "1\n", "split/scaffold/test": "",
}  # fmt: skip


def write_ogb(folder: Path, files: Mapping[str, str] = OGB) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write(content)
    return folder


def test_an_ogb_folder_by_hand(tmp_path: Path):
    found = read_graphs(write_ogb(tmp_path / "mine"))
    assert found.ids == ["mine-0", "mine-1", "mine-2"] and found.classes == ["0", "1"]
    assert found.labels.tolist() == [1, 0, 1] and found.node_offsets.tolist() == [0, 2, 3, 6]
    assert found.edges.tolist() == [[0, 1, 3, 4, 5, 4], [1, 0, 4, 3, 4, 5]]
    assert found.edge_labels.tolist() == [[1], [1], [2], [2], [3], [3]]
    assert found.node_labels.tolist() == [[5, 0], [6, 1], [7, 0], [5, 0], [5, 1], [5, 2]]


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("raw/edge", "0,1\n0,1\n2,3\n", r"edge \(two a line of raw/edge.csv.gz\) 5: from node 2 to node 3 of graph "),
        ("raw/edge", "0,1\n0,1\n", "edge.csv.gz: has 2 lines; num-edge-list.csv.gz counts 3"),
        ("raw/edge-feat", "0\n", "edge-feat.csv.gz: has 1 lines, there are 3 lines of edge.csv.gz"),
        ("raw/graph-label", "1\n0\n", "graph-label.csv.gz: has 2 lines; num-node-list.csv.gz has 3"),
        ("raw/graph-label", "1\nnan\n0\n", "graph-label.csv.gz:2: nan is no class; leave the graph out"),
        ("raw/graph-label", "1,0\n1,1\n0,0\n", "graph-label.csv.gz: has 2 tasks; keep the column of one"),
        ("raw/node-feat", "0.5\n1\n1\n1\n1\n1\n", "node-feat.csv.gz: expected whole numbers"),
    ],
)
def test_what_an_ogb_folder_cannot_hold(tmp_path: Path, part: str, content: str, said: str):
    with pytest.raises(DataError, match=said):
        read_graphs(write_ogb(tmp_path, {**OGB, part: content}))


def test_a_gz_file_cut_short(tmp_path: Path):
    file = write_ogb(tmp_path) / "raw" / "edge.csv.gz"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"edge.csv.gz: expected whole numbers with commas between"):
        read_graphs(tmp_path)


def test_an_ogb_split(tmp_path: Path):
    write_ogb(tmp_path)
    assert ogb_split(tmp_path, "train", 3).tolist() == [2, 0]
    with pytest.raises(DataError, match=r"train.csv.gz: graphs run from 0 to 2; the set has 2"):
        ogb_split(tmp_path, "train", 2)
    with pytest.raises(DataError, match="expected one folder with a split, there is none; or set split=all"):
        ogb_split(tmp_path / "raw", "train", 3)


def test_molbace_by_its_smiles_and_published_counts(root: Path):
    """Hu et al. 2020, arXiv:2005.00687: 1,513 graphs of 34.1 nodes and 36.9 bonds; the first label is the element."""
    folder = root / "data" / "raw" / "molbace"
    found = read_graphs(folder)
    assert len(found) == 1513 and found.columns == {"node_labels": 9, "edge_labels": 3, "node_features": 0}
    assert round(found.n_nodes / 1513, 1) == 34.1 and round(found.edges.shape[1] / 2 / 1513, 1) == 36.9
    parts = [ogb_split(folder, part, 1513) for part in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [1210, 151, 152]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1513))
    with gzip.open(folder / "mapping" / "mol.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["Class"]) for row in rows] == found.labels.tolist()
    for symbol, number in {"Br": 35, "Cl": 17, "F": 9}.items():
        atoms = np.bincount(found.graph_of_node[found.node_labels[:, 0] == number - 1], minlength=1513)
        assert atoms.tolist() == [row["smiles"].count(symbol) for row in rows]
    assert_same(found.take(np.arange(1513)), found)
