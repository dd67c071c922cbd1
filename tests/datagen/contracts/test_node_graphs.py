"""Oracles: PyTorch Geometric's reader on the same raw files; edges and parts by hand."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from datagen.contracts.errors import DataError
from datagen.contracts.node_graphs import read_node_graph, undirected
from tests.tiny_nodes import tiny_nodes, write_nodes

N_TRAIN, N_BEFORE, N_TEST = 6, 520, 9
SPARSE = {"features": None, "indptr": np.minimum(np.arange(73), 1), "indices": np.array([2]), "n_features": 3}


class _Python2(pickle._Pickler):  # its C twin takes no other way of writing bytes
    """Bytes as Python 2 wrote its texts, arrays under the names that numpy and scipy had then."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, content: bytes) -> None:
        write: Any = getattr(self, "write")  # noqa: B009  # its types know the C twin alone
        write(b"T" + struct.pack("<i", len(content)) + content)

    dispatch[bytes] = save_bytes


def write_python2(path: Path, content: object) -> None:
    with path.open("wb") as file:
        _Python2(file, protocol=2).dump(content)
    names = {b"numpy._core.multiarray": b"numpy.core.multiarray", b"scipy.sparse._csr": b"scipy.sparse.csr"}
    written = path.read_bytes()
    for now, then in names.items():
        written = written.replace(now, then)
    path.write_bytes(written)


def write_planetoid(folder: Path, name: str = "citeseer", *, gap: bool = True) -> dict[str, Any]:
    """A set of 530 nodes; with a gap, node 524 is in the graph and in no other file, as 15 nodes of Citeseer are."""
    random = np.random.default_rng(0)
    test = np.delete(np.arange(N_BEFORE, N_BEFORE + N_TEST + 1), 4) if gap else np.arange(N_BEFORE, N_BEFORE + N_TEST)
    test = random.permutation(test)
    n_nodes = int(test.max()) + 1
    features = csr_matrix((random.random((N_BEFORE + N_TEST, 7)) < 0.3).astype(np.float32))
    one_hot = np.eye(3, dtype=np.int32)[random.integers(3, size=N_BEFORE + N_TEST)]
    graph: dict[int, list[int]] = {node: [] for node in range(n_nodes)}
    for one, other in random.integers(n_nodes, size=(900, 2)).tolist():
        graph[one].append(other)
        graph[other].append(one)  # and from some nodes to themselves, and some twice
    parts = {
        "x": features[:N_TRAIN], "y": one_hot[:N_TRAIN], "allx": features[:N_BEFORE], "ally": one_hot[:N_BEFORE],
        "tx": features[N_BEFORE:], "ty": one_hot[N_BEFORE:], "graph": graph,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for part, content in parts.items():
        write_python2(folder / f"ind.{name}.{part}", content)
    (folder / f"ind.{name}.test.index").write_text("".join(f"{node}\n" for node in test))
    return parts


@pytest.mark.parametrize("name", ["citeseer", "cora"])
def test_raw_files_are_read_as_pytorch_geometric_reads_them(tmp_path: Path, name: str):
    """Features, labels, edges and parts; of the node that no file knows, theirs has label 0, and ours none."""
    from torch_geometric.io import read_planetoid_data

    write_planetoid(tmp_path / "raw", name, gap=name == "citeseer")
    found = read_node_graph(tmp_path / "raw")
    theirs: Any = read_planetoid_data(str(tmp_path / "raw"), name)
    assert np.array_equal(found.features.dense(), theirs.x.numpy())
    known = found.labels >= 0
    assert np.array_equal(found.labels[known], theirs.y.numpy()[known])
    assert np.flatnonzero(~known).tolist() == ([524] if name == "citeseer" else [])
    assert not found.features.dense()[~known].any()
    assert {*map(tuple, found.both_ways().T.tolist())} == {*map(tuple, theirs.edge_index.T.tolist())}
    assert 2 * found.edges.shape[1] == theirs.edge_index.shape[1]
    for part, mask in (("train", "train_mask"), ("validation", "val_mask"), ("test", "test_mask")):
        assert getattr(found, part).tolist() == np.flatnonzero(theirs[mask].numpy()).tolist()


def test_a_pickle_that_names_a_program_is_refused_unrun(tmp_path: Path):
    """Oracle: what the program would make is not there; the very same pickle makes it where pickle loads it."""

    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    write_planetoid(tmp_path / "raw")
    (tmp_path / "raw" / "ind.citeseer.graph").write_bytes(pickle.dumps(Program(), protocol=2))
    with pytest.raises(DataError, match=r"ind\.citeseer\.graph.*names posix\.mkdir, which is not read"):
        read_node_graph(tmp_path / "raw")
    assert not (tmp_path / "made").exists()
    pickle.loads((tmp_path / "raw" / "ind.citeseer.graph").read_bytes())
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("part", "content", "says"),
    [
        ("allx", np.array(["a", "b"]), r"ind\.citeseer\.allx.*not of numbers"),
        ("allx", np.zeros(3), "expected a matrix of numbers"),
        ("allx", csr_matrix(np.zeros((3, 7), dtype=np.float32)), "allx has 3 rows, ally"),
        ("tx", csr_matrix(np.zeros((N_TEST, 8), dtype=np.float32)), "other columns"),
        ("graph", {}, "expected a node's neighbours"),
        ("graph", {0: ["a"]}, "a neighbour is no whole number"),
        ("graph", {0: [1.7], 1: []}, r"ind\.citeseer\.graph: a node or a neighbour is no whole number"),
        ("graph", {0: [], 1.0: []}, r"ind\.citeseer\.graph: a node or a neighbour is no whole number"),
        ("graph", {5: [0]}, "not numbered from 0"),
        ("graph", {0: [10**6]}, "edges names nodes from 0 to 1000000"),
        ("y", [1, 2], "expected a matrix of numbers"),
    ],
)
def test_files_that_disagree_are_named(tmp_path: Path, part: str, content: object, says: str):
    write_planetoid(tmp_path / "raw")
    write_python2(tmp_path / "raw" / f"ind.citeseer.{part}", content)
    with pytest.raises(DataError, match=says):
        read_node_graph(tmp_path / "raw")


@pytest.mark.parametrize("shape", [(N_BEFORE,), (N_BEFORE, 7.5), (), None])
def test_sparse_rows_of_no_such_shape_are_named(tmp_path: Path, shape: Any):
    write_planetoid(tmp_path / "raw")
    rows: Any = csr_matrix(np.zeros((N_BEFORE, 7), dtype=np.float32))
    rows._shape = shape
    write_python2(tmp_path / "raw" / "ind.citeseer.allx", rows)
    with pytest.raises(DataError, match=r"ind\.citeseer\.allx: no compressed sparse rows"):
        read_node_graph(tmp_path / "raw")


def test_files_that_are_cut_or_missing_are_named(tmp_path: Path):
    raw = tmp_path / "raw"
    write_planetoid(raw)
    whole = (raw / "ind.citeseer.tx").read_bytes()
    for text, says in (("1\n2\n", "names 2 nodes from 1"), ("", "names no node"), ("one\n", "a node's number a line")):
        (raw / "ind.citeseer.test.index").write_text(text)
        with pytest.raises(DataError, match=says):
            read_node_graph(raw)
    (raw / "ind.citeseer.tx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"ind\.citeseer\.tx: not one of Planetoid's pickles"):
        read_node_graph(raw)
    (raw / "ind.citeseer.tx").unlink()
    with pytest.raises(DataError, match=r"ind\.citeseer\.tx: No such file"):
        read_node_graph(raw)


def test_one_of_several_sets_is_chosen_by_name(tmp_path: Path):
    for name in ("citeseer", "cora"):
        write_planetoid(tmp_path, name, gap=name == "citeseer")
    assert len(read_node_graph(tmp_path, "cora")) == 529 and len(read_node_graph(tmp_path, "citeseer")) == 530
    for name in (None, "pubmed"):
        with pytest.raises(DataError, match=f"holds citeseer, cora; set name to one of them .got {name!r}"):
            read_node_graph(tmp_path, name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no file ind\.NAME\.graph"):
        read_node_graph(tmp_path / "empty")


def test_an_npz_is_read_in_either_form(tmp_path: Path):
    """Dense or sparse features, positions or booleans; an edge counts once, whichever way it stands and how often."""
    arrays = tiny_nodes()
    dense = read_node_graph(write_nodes(tmp_path / "dense.npz"))
    words = csr_matrix(arrays["features"])
    masks = {part: np.isin(np.arange(72), arrays[part]) for part in ("train", "validation", "test")}
    again = np.concatenate([arrays["edges"], arrays["edges"][::-1], [[5, 7], [5, 7]]], axis=1)
    sparse = read_node_graph(
        write_nodes(tmp_path / "sparse.npz", features=None, indptr=words.indptr, indices=words.indices, n_features=12,
                    edges=again, class_names=["a", "b", "c"], **masks)
    )  # fmt: skip
    assert np.array_equal(dense.features.dense(), arrays["features"])
    assert np.array_equal(sparse.features.dense(), arrays["features"]), "values are 1 where none are given"
    assert np.array_equal(dense.edges, sparse.edges)
    pairs = {frozenset(edge) for edge in arrays["edges"].T.tolist()}
    assert {frozenset(edge) for edge in dense.edges.T.tolist()} == {pair for pair in pairs if len(pair) == 2}
    assert (dense.edges[0] < dense.edges[1]).all()
    for part in masks:
        assert getattr(dense, part).tolist() == getattr(sparse, part).tolist() == sorted(arrays[part].tolist())
    assert (dense.classes, sparse.classes) == (["0", "1", "2"], ["a", "b", "c"])


def test_a_permuted_graph_is_the_same_graph(tmp_path: Path):
    graph = read_node_graph(write_nodes(tmp_path / "nodes.npz"))
    order = np.random.default_rng(1).permutation(72)
    moved = graph.permuted(order)
    assert {*map(tuple, np.sort(order[moved.edges], axis=0).T.tolist())} == {*map(tuple, graph.edges.T.tolist())}
    assert np.array_equal(moved.features.dense(), graph.features.dense()[order])
    assert sorted(order[moved.test].tolist()) == graph.test.tolist()
    assert np.array_equal(moved.labels, graph.labels[order])


def test_no_edge_is_an_edge_to_itself():
    edges = np.array([[0, 2, 1, 1], [0, 1, 2, 1]])
    assert undirected(edges).tolist() == [[1], [2]]
    assert undirected(np.zeros((2, 0), dtype=np.int64)).shape == (2, 0)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"edges": None}, "has no array edges; it holds features, labels"),
        ({"features": None, "test": None}, "has no array test and no features"),
        ({"edges": np.array([[0], [72]])}, "edges names nodes from 0 to 72; there are 72"),
        ({"edges": np.zeros((3, 4), dtype=int)}, r"edges has shape \(3, 4\)"),
        ({"edges": np.zeros((2, 4))}, "edges is float64; give whole numbers"),
        ({"labels": np.zeros(72, dtype=int)}, "there is one class"),
        ({"labels": np.full(72, -2)}, "labels run from -2"),
        ({"labels": np.zeros((72, 3), dtype=int)}, r"labels has shape \(72, 3\)"),
        ({"class_names": ["a", "b"]}, "labels run from 0 to 2, with 2 class names"),
        ({"features": np.ones((71, 3))}, "features of 71 nodes and labels of 72"),
        ({"features": np.full((72, 3), np.inf)}, "features: NaN or infinity"),
        ({"features": np.array(["a"] * 72)}, "features is <U1"),
        ({"indptr": np.zeros(73, dtype=int)}, "has indptr and no indices and no n_features"),
        ({**SPARSE, "values": np.array(["a"])}, "values is <U1; give numbers"),
        ({**SPARSE, "n_features": np.array([2, 3])}, r"n_features has shape \(2,\)"),
        ({**SPARSE, "indices": np.array([3])}, "features: columns run from 3 to 3; there are 3"),
        ({"train": np.array([], dtype=int)}, "train names no node"),
        ({"train": np.array([3, 3])}, "train names node 3 twice"),
        ({"train": np.array([72])}, "train names nodes from 72 to 72"),
        ({"train": np.ones(5, dtype=bool)}, r"train has shape \(5,\)"),
        ({"train": np.arange(72)}, "is in train and in validation"),
        ({"labels": np.where(np.arange(72) < 71, np.arange(72) % 3, -1), "train": np.array([71])}, "has no label"),
    ],
)
def test_what_an_npz_lacks_is_said(tmp_path: Path, changed: dict[str, Any], says: str):
    with pytest.raises(DataError, match=says):
        read_node_graph(write_nodes(tmp_path / "nodes.npz", **changed))


def test_a_damaged_compressed_npz_is_named(tmp_path: Path):
    """Damaged in the middle of an array, where zlib finds it, not the container; and in any one byte of the file."""
    arrays = tiny_nodes()
    path = tmp_path / "nodes.npz"
    np.savez_compressed(path, **arrays)
    assert read_node_graph(path).labels.tolist() == arrays["labels"].tolist()
    whole = path.read_bytes()
    found: list[str] = []
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_node_graph(path)
        except DataError as error:
            found.append(str(error))
    assert all(one.startswith(f"{path}: ") for one in found)
    assert [one for one in found if "while decompressing data" in one], "zlib's own error"


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "nodes.npz").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"not readable as an \.npz file"):
        read_node_graph(tmp_path / "nodes.npz")
    with pytest.raises(DataError, match="expected a folder"):
        read_node_graph(tmp_path / "nodes.csv")
    with pytest.raises(DataError, match="leave the name out"):
        read_node_graph(write_nodes(tmp_path / "whole.npz"), "cora")
