"""Oracles: arrays by hand, PyTorch Geometric's own reader and loader."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader

from condense.condensed_graphs import as_condensed, write_condensed_graphs
from condense.pyg import open_graphs
from datagen.contracts.errors import DataError
from tests.condense.test_condensed_graphs import trees
from tests.labelled_graphs import write_graphs
from tests.tiny_graphs import graph_set, random_graphs, write_tu


def test_a_condensed_set_by_hand(tmp_path: Path):
    codebook = np.linspace(0, 1, 301, dtype=np.float32)[:, None]
    write_condensed_graphs(tmp_path / "out", replace(trees(), codebook=codebook), {})
    found = open_graphs(tmp_path / "out")
    assert len(found) == 2 and found.num_classes == 2 and found.classes == ["class 0", "class 1"]
    assert found.codebook is not None and found.codebook.tolist() == codebook.tolist()
    first, second = found
    assert first.x.tolist() == [[1], [2], [300]] and first.x.dtype == torch.int64
    assert first.edge_index.tolist() == [[1, 2], [0, 0]] and first.edge_attr.tolist() == [[1], [0]]
    assert first.is_root.tolist() == [True, False, False] and first.weight.tolist() == [300]
    assert first.degree.tolist() == [2, 5, 1] and first.y.tolist() == [0] and first.id == "tiny-0"
    assert second.x.tolist() == [[4]] and second.edge_index.shape == (2, 0) and second.degree.tolist() == [0]


def test_a_loader_takes_it(tmp_path: Path):
    """A batch of both: nodes of the second are numbered behind those of the first."""
    write_condensed_graphs(tmp_path / "out", trees(), {})
    batch: Any = next(iter(DataLoader(open_graphs(tmp_path / "out"), batch_size=2)))
    assert batch.num_graphs == 2 and batch.batch.tolist() == [0, 0, 0, 1] and batch.y.tolist() == [0, 1]
    assert batch.edge_index.tolist() == [[1, 2], [0, 0]] and batch.is_root.tolist() == [True, False, False, True]
    assert batch.weight.tolist() == [300, 2] and batch.degree.tolist() == [2, 5, 1, 0]
    assert batch.id == ["tiny-0", "tiny-1"]


def test_real_graphs_are_those_of_pytorch_geometric(tmp_path: Path):
    graphs = random_graphs(20, 3)
    assert np.diff(graphs.edge_offsets)[-1], "PyTorch Geometric leaves out the last graphs where they have no edge"
    folder = write_tu(tmp_path, graphs)
    write_graphs(tmp_path / "dataset", graphs)
    write_condensed_graphs(tmp_path / "coreset", as_condensed(graphs), {})
    wanted = TUDataset(str(tmp_path), "TINY")
    for path in (folder, tmp_path / "dataset", tmp_path / "coreset"):
        for mine, theirs in zip(open_graphs(str(path)), wanted, strict=True):
            assert mine.x[:, 0].tolist() == theirs.x.argmax(1).tolist() and mine.y.tolist() == theirs.y.tolist()
            assert mine.is_root.all() and mine.weight.tolist() == [1]
            edges = sorted(zip(*mine.edge_index.tolist(), mine.edge_attr[:, 0].tolist(), strict=True))
            assert edges == sorted(zip(*theirs.edge_index.tolist(), theirs.edge_attr.argmax(1).tolist(), strict=True))
            assert mine.degree.tolist() == torch.bincount(theirs.edge_index[1], minlength=len(theirs.x)).tolist()


def test_features_where_nodes_have_no_labels_and_where_they_have(tmp_path: Path):
    pair, values = [(2, [(0, 1)])], [[0.5], [2.0]]
    for name, labels in {"both": [3, 4], "features": None}.items():
        graphs = graph_set(pair, node_labels=labels, node_features=values, labels=[1])
        (one,) = open_graphs(write_graphs(tmp_path / name, graphs))
        assert one.edge_attr is None
        if labels:
            assert one.x.tolist() == [[3], [4]] and one.features.tolist() == values
        else:
            assert one.x.tolist() == values and one.x.dtype == torch.float32 and "features" not in one
    (bare,) = open_graphs(write_graphs(tmp_path / "bare", graph_set(pair, labels=[1])))
    assert bare.x is None and bare.num_nodes == 2


def test_no_graph_set(tmp_path: Path):
    with pytest.raises(DataError, match="no graph set"):
        open_graphs(tmp_path)
