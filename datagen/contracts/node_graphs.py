"""Node graphs: one graph whose nodes are to be classified, some of them labelled, in parts that everybody shares.

Axes: V nodes, E undirected edges, D features, C classes.

Planetoid's files (`ind.NAME.x` and others) are pickles of Python 2, which may hold any program; `_planetoid` says what
of them is read. An .npz holds arrays, see `read_node_graph`.

Source: the layout of the raw files is that of Yang, Cohen, Salakhutdinov. Revisiting Semi-Supervised Learning with
Graph Embeddings. 2016. arXiv:1603.08861, in its code, and so are the parts.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datagen.contracts._planetoid import find_names, read_parts
from datagen.contracts.errors import DataError
from datagen.contracts.sparse_rows import SparseRows

Ints = NDArray[np.int64]
PARTS = ("train", "validation", "test")
N_VALIDATION = 500  # nodes after the training nodes, in the code of the paper
UNLABELLED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGraph:
    """A graph in memory.

    Attributes:
        features: V rows of D columns, float32.
        edges: (2, E) int64, each edge once with the smaller node first, sorted; no node is joined to itself.
        labels: (V,) int64 in [0, C), or -1 where nobody knows.
        train: positions of the nodes whose labels are learned from, increasing.
        validation: of those that choose, likewise.
        test: of those that judge, likewise; no node is in two parts, and each has a label.
        classes: C names, in the order of the labels.
    """

    features: SparseRows
    edges: Ints
    labels: Ints
    train: Ints
    validation: Ints
    test: Ints
    classes: Sequence[str]

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.labels)

    def both_ways(self) -> Ints:
        """(2, 2 E) directed edges, source above target: each edge from either end."""
        return np.concatenate([self.edges, self.edges[::-1]], axis=1)

    def permuted(self, order: Ints) -> "NodeGraph":
        """The same graph, whose node i is now what `order[i]` was."""
        place = np.argsort(order)
        return NodeGraph(
            features=self.features.take(order),
            edges=undirected(place[self.edges]),
            labels=self.labels[order],
            train=np.sort(place[self.train]),
            validation=np.sort(place[self.validation]),
            test=np.sort(place[self.test]),
            classes=self.classes,
        )


def undirected(edges: Ints) -> Ints:
    """Edges of any direction and number as `NodeGraph` has them: each pair once, none from a node to itself."""
    low, high = edges.min(axis=0), edges.max(axis=0)
    pairs = np.stack([low, high])[:, low != high]
    return np.unique(pairs, axis=1).astype(np.int64).reshape(2, -1)


def read_node_graph(path: Path, name: str | None = None) -> NodeGraph:
    """A node graph from a folder of Planetoid's files or from an .npz.

    Args:
        path: a folder with the eight files `ind.NAME.*`; or an .npz with `edges` (2, E), whichever end stands first;
            `labels` (V,), -1 where there is none; `train`, `validation` and `test`, positions or V booleans; and
            `features` (V, D), or `indptr`, `indices`, `n_features` and perhaps `values` (by default 1), compressed
            sparse rows. `class_names` is optional.
        name: NAME, which is needed where the folder holds several sets; only a folder has one.

    Raises:
        DataError: neither, or what it holds cannot be used; the message names the file and the remedy. An edge from a
            node to itself is left out, and one that comes more than once counts once.
    """
    if path.is_dir():
        return _of_planetoid(path, _choose(path, name))
    if not path.is_file() or path.suffix != ".npz":
        raise DataError(f"{path}: expected a folder with Planetoid's raw files ind.NAME.*, or an .npz file")
    if name is not None:
        raise DataError(f"{path}: an .npz holds one graph (got name {name!r}); leave the name out")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
    except (OSError, ValueError, EOFError, BadZipFile, RuntimeError, zlib.error) as error:
        raise DataError(f"{path}: not readable as an .npz file ({error}); write it with numpy.savez") from None
    return check_node_graph(path, arrays)


def check_node_graph(path: Path, arrays: Mapping[str, Any]) -> NodeGraph:
    """The arrays of an .npz as a node graph.

    Raises:
        DataError: an array is missing, or is not what `read_node_graph` says.
    """
    needed = ["edges", "labels", *PARTS, *([] if "indptr" in arrays else ["features"])]
    if missing := [one for one in needed if one not in arrays]:
        held = ", ".join(sorted(arrays)) or "none"
        raise DataError(f"{path}: has no array {' and no '.join(missing)}; it holds {held}")
    labels = _whole_numbers(path, "labels", arrays["labels"])
    n_nodes = len(labels)
    if labels.ndim != 1 or not n_nodes:
        raise DataError(f"{path}: labels has shape {labels.shape}; give one label a node, {UNLABELLED} where none is")
    edges = _whole_numbers(path, "edges", arrays["edges"])
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise DataError(f"{path}: edges has shape {edges.shape}; give 2 x E, an edge a column")
    if edges.size and not 0 <= edges.min() <= edges.max() < n_nodes:
        raise DataError(f"{path}: edges names nodes from {edges.min()} to {edges.max()}; there are {n_nodes}, from 0")
    n_classes = int(labels.max()) + 1
    classes = [str(one) for one in arrays.get("class_names", range(n_classes))]
    if labels.min() < UNLABELLED or n_classes > len(classes):
        raise DataError(f"{path}: labels run from {labels.min()} to {labels.max()}, with {len(classes)} class names")
    if len(classes) < 2:
        raise DataError(f"{path}: there is one class; nodes need two or more to be told apart")
    features = _features(path, arrays)
    if len(features) != n_nodes:
        raise DataError(f"{path}: features of {len(features)} nodes and labels of {n_nodes}; give a row a node")
    parts = {part: _part(path, part, arrays[part], labels) for part in PARTS}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if len(shared := np.intersect1d(parts[first], parts[second])):
            raise DataError(f"{path}: node {shared[0]} is in {first} and in {second}; a node is in one part at most")
    return NodeGraph(features=features, edges=undirected(edges), labels=labels, classes=classes, **parts)


def _features(path: Path, arrays: Mapping[str, Any]) -> SparseRows:
    if "indptr" in arrays:
        if missing := [one for one in ("indices", "n_features") if one not in arrays]:
            raise DataError(f"{path}: has indptr and no {' and no '.join(missing)}; give sparse rows whole")
        columns = _whole_numbers(path, "indices", arrays["indices"])
        values = np.asarray(arrays.get("values", np.ones(len(columns), dtype=np.float32)))
        if values.dtype.kind not in "iufb":
            raise DataError(f"{path}: values is {values.dtype}; give numbers")
        offsets, width = (_whole_numbers(path, name, arrays[name]) for name in ("indptr", "n_features"))
        if width.size != 1:
            raise DataError(f"{path}: n_features has shape {width.shape}; give one number")
        rows = SparseRows(
            offsets=offsets, columns=columns, values=values.astype(np.float32), n_columns=int(width.item())
        )
    else:
        dense = np.asarray(arrays["features"])
        if dense.ndim != 2 or dense.dtype.kind not in "iufb" or not dense.shape[1]:
            raise DataError(f"{path}: features is {dense.dtype} of shape {dense.shape}; give numbers, a row a node")
        rows = SparseRows.of(dense.astype(np.float32))
    if problem := rows.problem():
        raise DataError(f"{path}: features: {problem}")
    return rows


def _part(path: Path, part: str, given: Any, labels: Ints) -> Ints:
    """Positions of a part, sorted."""
    array = np.asarray(given)
    if array.dtype == np.bool_:
        if array.shape != labels.shape:
            raise DataError(f"{path}: {part} has shape {array.shape}; give {len(labels)} booleans, or positions")
        array = np.flatnonzero(array)
    positions = np.sort(_whole_numbers(path, part, array).ravel())
    if not len(positions):
        raise DataError(f"{path}: {part} names no node; give some")
    if positions[0] < 0 or positions[-1] >= len(labels):
        raise DataError(f"{path}: {part} names nodes from {positions[0]} to {positions[-1]}; there are {len(labels)}")
    if (twice := positions[1:][np.diff(positions) == 0]).size:
        raise DataError(f"{path}: {part} names node {twice[0]} twice")
    if (without := positions[labels[positions] == UNLABELLED]).size:
        raise DataError(f"{path}: {part} names node {without[0]}, which has no label; leave it out")
    return positions


def _whole_numbers(path: Path, name: str, given: Any) -> Ints:
    array = np.asarray(given)
    if array.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} is {array.dtype}; give whole numbers")
    return array.astype(np.int64)


def _choose(folder: Path, name: str | None) -> str:
    names = find_names(folder)
    if not names:
        raise DataError(f"{folder}: holds no file ind.NAME.graph; give Planetoid's raw files, or an .npz file")
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise DataError(f"{folder}: holds {', '.join(names)}; set name to one of them (got {name!r})")
    return name


def _of_planetoid(folder: Path, name: str) -> NodeGraph:
    """The eight files as a graph, its parts those of the paper: training nodes first, the 500 after them, the test's.

    Nodes that no file of features knows, as 15 of Citeseer, get none and no label.
    """
    parts = read_parts(folder, name)
    first = parts.n_train
    return check_node_graph(
        folder / f"ind.{name}.*",
        {
            "labels": parts.labels,
            "edges": parts.edges,
            "indptr": parts.features.offsets,
            "indices": parts.features.columns,
            "values": parts.features.values,
            "n_features": parts.features.n_columns,
            "train": np.arange(first),
            "validation": np.arange(first, min(first + N_VALIDATION, parts.n_before_test)),
            "test": parts.test,
        },
    )
