"""Folders that graph sets come in: the TU collection's text files, and OGB's compressed tables.

    TU     NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt; if there are some, NAME_node_labels.txt,
           NAME_edge_labels.txt and NAME_node_attributes.txt; in the folder, or in its `raw`
    OGB    raw/edge.csv.gz, num-node-list, num-edge-list, graph-label; if there are some, node-feat and edge-feat;
           split/SCHEME/train.csv.gz, valid and test

Source: https://chrsmrrs.github.io/datasets/docs/format/ (Morris et al. 2020, arXiv:2007.08663) and
https://ogb.stanford.edu (Hu et al. 2020, arXiv:2005.00687).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.errors import DataError

Numbers = NDArray[Any]  # integers or floats, as the file has them
_TU_EDGES = "_A.txt"
_OGB_EDGES = "edge.csv.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphColumns:
    """What a folder or a table holds, end to end in the order of the graphs; not checked but for what its reader says.

    Attributes:
        n_nodes: (G,).
        n_edges: (G,).
        edges: (2, E), source above target, numbered from 0 in each graph.
        node_labels: (V, F), F may be 0; so may H and D.
        edge_labels: (E, H).
        node_features: (V, D).
        labels: (G,).
        ids: G names.
        classes: names in the order of the labels.
        edges_at: where they are from, in front of their number, counted from 1, in errors.
    """

    n_nodes: Numbers
    n_edges: Numbers
    edges: Numbers
    node_labels: Numbers
    edge_labels: Numbers
    node_features: Numbers
    labels: Numbers
    ids: Sequence[str]
    classes: Sequence[str]
    edges_at: str = "edge"


def is_tu(path: Path) -> bool:
    """Whether the folder, or its `raw`, has a file of edges as the TU collection names it."""
    return bool(_tu_files(path))


def is_ogb(path: Path) -> bool:
    """Whether the folder's `raw` has a file of edges as OGB names it."""
    return (path / "raw" / _OGB_EDGES).is_file()


def read_tu(path: Path) -> GraphColumns:
    """A set of the TU collection; classes are the labels in their order, names of graphs count from 1 as in the files.

    An edge is taken for what its line says, from the first node to the second. Labels of nodes or edges that begin
    below 0 are counted from their lowest.

    Raises:
        DataError: a file is missing or cannot be read, or does not fit the others; the message says which line.
    """
    files = _tu_files(path)
    if len(files) != 1:
        held = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path}: expected one file NAME{_TU_EDGES}, there is {held}; name the folder of one TU set")
    folder, name = files[0].parent, files[0].name.removesuffix(_TU_EDGES)

    def file(part: str) -> Path:
        return folder / f"{name}_{part}.txt"

    graphs, owners = _column(file("graph_labels")), _column(file("graph_indicator"))
    if file("edge_attributes").exists():
        raise DataError(f"{file('edge_attributes')}: edges can have whole-number labels alone; take the file away")
    edges = _table(files[0], np.int64, 2)
    labels = _optional(file("node_labels"), np.int64, len(owners), "nodes")
    edge_labels = _optional(file("edge_labels"), np.int64, len(edges), f"lines of {files[0].name}")
    features = _optional(file("node_attributes"), np.float64, len(owners), "nodes")
    if len(owners) and not (owners.min() >= 1 and owners.max() <= len(graphs)):
        line = int(np.flatnonzero((owners < 1) | (owners > len(graphs)))[0])
        raise DataError(
            f"{file('graph_indicator')}:{line + 1}: graph {owners[line]}, and {file('graph_labels').name} has "
            f"{len(graphs)} graphs"
        )
    if (outside := ((edges < 1) | (edges > len(owners))).any(axis=1)).any():
        line = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"{files[0]}:{line + 1}: an edge between nodes {edges[line, 0]} and {edges[line, 1]}; nodes run from 1 to "
            f"{len(owners)}"
        )
    ends = owners[edges - 1]
    if (apart := ends[:, 0] != ends[:, 1]).any():
        line = int(np.flatnonzero(apart)[0])
        raise DataError(
            f"{files[0]}:{line + 1}: an edge between nodes {edges[line, 0]} of graph {ends[line, 0]} and "
            f"{edges[line, 1]} of graph {ends[line, 1]}; both must be of one graph"
        )
    order, edge_order = np.argsort(owners, kind="stable"), np.argsort(ends[:, 0], kind="stable")
    n_nodes = np.bincount(owners - 1, minlength=len(graphs))
    place = np.empty(len(owners), np.int64)  # of each node in its graph
    place[order] = np.arange(len(owners)) - np.repeat(np.cumsum(n_nodes) - n_nodes, n_nodes)
    names, classes = np.unique(graphs, return_inverse=True)
    return GraphColumns(
        n_nodes=n_nodes,
        n_edges=np.bincount(ends[:, 0] - 1, minlength=len(graphs)),
        edges=place[edges[edge_order] - 1].T,
        node_labels=_from_zero(labels)[order],
        edge_labels=_from_zero(edge_labels)[edge_order],
        node_features=features[order],
        labels=classes,
        ids=[f"{name}-{i + 1}" for i in range(len(graphs))],
        classes=[str(one) for one in names.tolist()],
    )


def read_ogb(path: Path) -> GraphColumns:
    """A set of OGB with one task of classes; a line of edges gives an edge in both directions, one after the other.

    So OGB itself reads its molecules. Names of graphs count from 0, as in the splits.

    Raises:
        DataError: as `read_tu`; or the set has several tasks, or no label for some graph.
    """
    raw = path / "raw"
    n_nodes, n_edges = _column(raw / "num-node-list.csv.gz"), _column(raw / "num-edge-list.csv.gz")
    edges = _table(raw / _OGB_EDGES, np.int64, 2)
    targets = _table(raw / "graph-label.csv.gz", np.float64)
    for what, count in (("num-edge-list.csv.gz", len(n_edges)), ("graph-label.csv.gz", len(targets))):
        if count != len(n_nodes):
            raise DataError(f"{raw / what}: has {count} lines; num-node-list.csv.gz has {len(n_nodes)}")
    if targets.shape[1] != 1:
        raise DataError(f"{raw / 'graph-label.csv.gz'}: has {targets.shape[1]} tasks; keep the column of one")
    if (odd := targets[:, 0] != np.rint(targets[:, 0])).any():  # NaN is unequal to itself
        line = int(np.flatnonzero(odd)[0])
        raise DataError(
            f"{raw / 'graph-label.csv.gz'}:{line + 1}: {targets[line, 0]} is no class; leave the graph out of all files"
        )
    if n_edges.sum() != len(edges):
        raise DataError(f"{raw / _OGB_EDGES}: has {len(edges)} lines; num-edge-list.csv.gz counts {n_edges.sum()}")
    names, classes = np.unique(targets[:, 0].astype(np.int64), return_inverse=True)
    of_nodes = _optional(raw / "node-feat.csv.gz", np.int64, int(n_nodes.sum()), "nodes in num-node-list.csv.gz")
    of_edges = _optional(raw / "edge-feat.csv.gz", np.int64, len(edges), f"lines of {_OGB_EDGES}")
    return GraphColumns(
        n_nodes=n_nodes,
        n_edges=2 * n_edges,
        edges=np.stack([edges, edges[:, ::-1]], axis=1).reshape(-1, 2).T,
        node_labels=_from_zero(of_nodes),
        edge_labels=np.repeat(_from_zero(of_edges), 2, axis=0),
        node_features=np.zeros((int(n_nodes.sum()), 0)),
        labels=classes,
        ids=[f"{path.name}-{i}" for i in range(len(n_nodes))],
        classes=[str(one) for one in names.tolist()],
        edges_at=f"edge (two a line of raw/{_OGB_EDGES})",
    )


def ogb_split(path: Path, part: str, n_graphs: int) -> NDArray[np.int64]:
    """Positions of a part's graphs, in OGB's order.

    Args:
        path: of the set.
        part: train, valid or test.
        n_graphs: of the set.

    Raises:
        DataError: there is no split, more than one, or it names graphs that are not there.
    """
    schemes = sorted(path.glob("split/*/"))
    if len(schemes) != 1:
        held = ", ".join(one.name for one in schemes) or "none"
        raise DataError(f"{path / 'split'}: expected one folder with a split, there is {held}; or set split=all")
    file = schemes[0] / f"{part}.csv.gz"
    chosen = _column(file)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < n_graphs):
        raise DataError(f"{file}: graphs run from {chosen.min()} to {chosen.max()}; the set has {n_graphs}")
    return chosen


def _tu_files(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{_TU_EDGES}")) or sorted(path.glob(f"raw/*{_TU_EDGES}"))


def _column(file: Path) -> NDArray[np.int64]:
    return _table(file, np.int64, 1)[:, 0]


def _optional(file: Path, kind: type, n_rows: int, of: str) -> Numbers:
    """A line each; no columns where there is no file."""
    table = _table(file, kind) if file.exists() else cast(Numbers, np.zeros((n_rows, 0), kind))
    if len(table) != n_rows:
        raise DataError(f"{file}: has {len(table)} lines, there are {n_rows} {of}; it needs as many")
    return table


def _table(file: Path, kind: type, n_columns: int | None = None) -> Numbers:
    """The numbers of a file of comma-separated lines.

    Raises:
        DataError: there is no such file, or something else in it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without lines, such as the edges of points
            table = cast(Numbers, np.loadtxt(file, dtype=kind, delimiter=",", ndmin=2, comments=None))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; a set of this kind needs it") from None
    except (OSError, EOFError, ValueError) as error:
        wanted = "whole numbers" if kind is np.int64 else "numbers"
        raise DataError(f"{file}: expected {wanted} with commas between ({' '.join(str(error).split())})") from None
    if not len(table):
        return cast(Numbers, np.zeros((0, n_columns or 0), kind))
    if n_columns and table.shape[1] != n_columns:
        raise DataError(f"{file}: has {table.shape[1]} columns; expected {n_columns}")
    return table


def _from_zero(labels: Numbers) -> Numbers:
    return labels - np.minimum(labels.min(axis=0, initial=0), 0)
