"""Oracles: the same folder read without PyTorch Geometric; graphs of its own classes, made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from condense.graph_sources.pyg import Config, _columns, pyg
from condense.graph_sources.tu_folder import Config as TuConfig
from condense.graph_sources.tu_folder import tu_folder
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.graphs import graphs_of
from tests.tiny_graphs import assert_same, random_graphs, write_tu


def test_a_set_by_its_name_is_the_folder_itself(tmp_path: Path):
    """The same parts too, as the seed is the same; names count from 0 here and from 1 in the folder."""
    folder = write_tu(tmp_path, random_graphs(40, 0))
    for split in ("train", "test"):
        found = pyg(Config.model_validate({"dataset": "TUDataset:TINY", "split": split}), tmp_path)
        wanted = tu_folder(TuConfig.model_validate({"split": split}), folder).graphs
        numbers = [int(id.rpartition("-")[2]) for id in found.graphs.ids]
        assert numbers == [int(id.rpartition("-")[2]) - 1 for id in wanted.ids] and found.origin == "TUDataset:TINY"
        assert_same(graphs_of(tmp_path, _plain(found.graphs, wanted.ids)), wanted)


def test_attributes_of_nodes_are_features_beside_their_labels(tmp_path: Path):
    graphs = random_graphs(40, 0)
    values = np.random.default_rng(0).integers(0, 9, (graphs.n_nodes, 2)).astype(np.float32)
    folder = write_tu(tmp_path, replace(graphs, node_features=values))
    found = pyg(Config.model_validate({"dataset": "TUDataset:TINY"}), tmp_path).graphs
    wanted = tu_folder(TuConfig(), folder).graphs
    assert found.node_features.shape[1] == 2 and found.node_labels.shape[1] == 1
    assert_same(graphs_of(tmp_path, _plain(found, wanted.ids)), wanted)


def _plain(graphs, ids):
    from datagen.contracts.graph_folders import GraphColumns

    return GraphColumns(
        n_nodes=np.diff(graphs.node_offsets),
        n_edges=np.diff(graphs.edge_offsets),
        edges=graphs.edges - graphs.node_offsets[:-1][graphs.graph_of_node[graphs.edges[0]]],
        node_labels=graphs.node_labels,
        edge_labels=graphs.edge_labels,
        node_features=graphs.node_features,
        labels=graphs.labels,
        ids=ids,
        classes=graphs.classes,
    )


def data(x: list[list[float]] | None, y: float, edge_attr: list[list[float]] | None = None) -> Data:
    """Two nodes, an edge."""
    return Data(
        x=None if x is None else torch.tensor(x),
        edge_index=torch.tensor([[0], [1]]),
        edge_attr=None if edge_attr is None else torch.tensor(edge_attr),
        y=torch.tensor([y]),
        num_nodes=2,
    )


def test_whole_numbers_are_labels_and_others_features():
    found = _columns([data([[5, 2], [0, 3]], 4, [[7.0]]), data([[1, 1], [9, 0]], -1, [[0.0]])], "set")
    assert found.node_labels.tolist() == [[5, 2], [0, 3], [1, 1], [9, 0]] and found.node_features.shape == (4, 0)
    assert found.edge_labels.tolist() == [[7], [0]]
    assert found.labels.tolist() == [1, 0] and found.classes == ["-1", "4"] and found.ids == ["set-0", "set-1"]
    one_hot = _columns([data([[0.0, 1], [1, 0]], 0), data([[0, 1.0], [0, 1]], 1)], "set")
    assert one_hot.node_labels.tolist() == [[1], [0], [1], [1]]
    features = _columns([data([[0.5], [1]], 0), data([[0], [2.0]], 1)], "set")
    assert features.node_labels.shape == (4, 0) and features.node_features.tolist() == [[0.5], [1], [0], [2]]
    bare = _columns([data(None, 0), data(None, 1)], "set")
    assert bare.node_labels.shape == (4, 0) and bare.edge_labels.shape == (2, 0)


def test_what_is_no_set_of_classes():
    with pytest.raises(DataError, match="set: edge_attr is no whole numbers"):
        _columns([data(None, 0, [[0.5]])], "set")
    with pytest.raises(DataError, match=r"set: y has shape \(1, 1\), or is no whole number"):
        _columns([data(None, float("nan"))], "set")
    with pytest.raises(DataError, match="set: holds no graph"):
        _columns([], "set")


@pytest.mark.parametrize(
    ("dataset", "error", "said"),
    [
        ("NoSuchSet:A", ParamsError, "torch_geometric.datasets has no 'NoSuchSet'; give one such as TUDataset:MUTAG"),
        ("TUDataset", ParamsError, "TUDataset cannot be opened by its name"),
        ("MoleculeNet:NONE", MissingError, "MoleculeNet:NONE is not in .*, and cannot be fetched"),
    ],
)
def test_a_name_that_opens_nothing(tmp_path: Path, dataset: str, error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        pyg(Config(dataset=dataset), tmp_path)
