"""Condensed graph sets: a few graphs, made or chosen, that stand for many; stored, counted in bytes, read back.

A dataset of Graphs (datagen/contracts/graphs.py), so that other tools see the graphs, with the set itself beside them:

    condensed_graphs.safetensors   what a student is trained on, and all that is counted as the set's size
    part-00000.parquet             the graphs, a row each; roots and weights are in the file above alone

One serialisation counts made sets, coresets and whole sets alike: compressed sparse rows with the smallest unsigned
integers that hold the values of the set, as many bytes as `numpy` needs.

    n_nodes        a number a graph
    out_degrees    a number a node: how many of the stored edges begin there
    targets        a number a stored edge: where it ends, nodes numbered in their graph
    is_undirected  a byte: 1 where every edge has its reverse with the same labels, as often; then of the two only the
                   one that does not go down in number is stored, and self-loops as often as they are there
    node_labels    F numbers a node
    edge_labels    H numbers a stored edge
    node_features  D float32 a node
    labels         a number a graph
    is_root        a bit a node, absent where all are roots
    weights        a number a graph, float32 where some is not whole; absent where all are 1
    degrees        a number a node, where the set has them
    codebook       K x D float32, where continuous features were quantised

Names are in the dataset, and not counted.

Source: none; `paper_bytes` counts as Mirage (Gupta et al. 2023, arXiv:2310.09486) prints it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from datagen.contracts.dataset import DatasetWriter, is_dataset, iterate, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.graph_folders import GraphColumns
from datagen.contracts.graphs import Floats, GraphRow, GraphSet, Ints, graph_rows, graphs_of

FILE = "condensed_graphs.safetensors"
PARTS: Sequence[str] = ("structure", "labels", "features", "roots", "weights", "degrees", "codebook")
_PART_OF = {
    "n_nodes": "structure",
    "out_degrees": "structure",
    "targets": "structure",
    "is_undirected": "structure",
    "node_labels": "features",
    "edge_labels": "features",
    "node_features": "features",
    "is_root": "roots",
}


@dataclass(frozen=True, kw_only=True)
class CondensedGraphs:
    """What a student is trained on.

    Attributes:
        graphs: trees whose edges go from child to parent, or real graphs.
        is_root: (V,) bool; only roots are read out. All nodes of a real graph are.
        weights: (G,) float32, above 0: how many graphs one stands for; 1 for a real one.
        degrees: (V,) int64, of each node in the graph that it comes from, for networks that read it; None where the
            set does not say, and for real graphs, whose own degrees count.
        codebook: (K, D) float32, or None: the last column of node labels is the row of it that stands for the node's
            continuous features.
    """

    graphs: GraphSet
    is_root: NDArray[np.bool_]
    weights: Floats
    degrees: Ints | None = None
    codebook: Floats | None = None

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self.graphs)


def as_condensed(graphs: GraphSet, codebook: Floats | None = None) -> CondensedGraphs:
    """Real graphs as they are: every node a root, every weight 1."""
    return CondensedGraphs(
        graphs=graphs,
        is_root=np.ones(graphs.n_nodes, dtype=np.bool_),
        weights=np.ones(len(graphs), dtype=np.float32),
        codebook=codebook,
    )


def arrays_of(condensed: CondensedGraphs, *, as_directed: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays that are stored, by name; every edge by itself with `as_directed`, whatever the edges are."""
    graphs = condensed.graphs
    edges, edge_labels, is_undirected = _stored_edges(graphs, as_directed)
    local = edges - graphs.node_offsets[:-1][graphs.graph_of_node[edges[0]]]
    arrays: dict[str, NDArray[Any]] = {
        "n_nodes": _smallest(np.diff(graphs.node_offsets)),
        "out_degrees": _smallest(np.bincount(edges[0], minlength=graphs.n_nodes)),
        "targets": _smallest(local[1]),
        "is_undirected": np.array([is_undirected], dtype=np.uint8),
        "node_labels": _smallest(graphs.node_labels),
        "edge_labels": _smallest(edge_labels),
        "node_features": graphs.node_features.astype(np.float32),
        "labels": graphs.labels.astype(np.min_scalar_type(max(len(graphs.classes) - 1, 0))),
    }
    if not condensed.is_root.all():
        arrays["is_root"] = np.packbits(condensed.is_root)
    if (condensed.weights != 1).any():
        whole = (condensed.weights == np.rint(condensed.weights)).all()
        arrays["weights"] = (
            _smallest(condensed.weights.astype(np.int64)) if whole else condensed.weights.astype(np.float32)
        )
    if condensed.degrees is not None:
        arrays["degrees"] = _smallest(condensed.degrees)
    if condensed.codebook is not None:
        arrays["codebook"] = condensed.codebook.astype(np.float32)
    return arrays


def count_bytes(graphs: CondensedGraphs | GraphSet) -> dict[str, int]:
    """Bytes of what is stored: structure, labels, features, roots, weights, degrees, codebook, and their total."""
    condensed = as_condensed(graphs) if isinstance(graphs, GraphSet) else graphs
    counts = dict.fromkeys(PARTS, 0)
    for name, array in arrays_of(condensed).items():
        counts[_PART_OF.get(name, name)] += array.nbytes
    return counts | {"total": sum(counts.values())}


def count_bytes_of_all(sets: Iterable[GraphSet]) -> dict[str, int]:
    """`count_bytes` of all graphs together, of which no more than one of these sets is in memory."""
    extents: dict[bool, dict[str, tuple[int, int]]] = {False: {}, True: {}}  # as directed: values of an array, largest
    is_undirected, n_classes = True, 0
    for graphs in sets:
        n_classes = len(graphs.classes)
        for as_directed, extent in extents.items():
            arrays = arrays_of(as_condensed(graphs), as_directed=as_directed)
            is_undirected &= as_directed or bool(arrays["is_undirected"][0]) or not graphs.edges.size
            for name, array in arrays.items():
                n_values, largest = extent.get(name, (0, 0))
                extent[name] = n_values + array.size, max(largest, int(np.ceil(array.max(initial=0))))
    counts = dict.fromkeys(PARTS, 0)
    for name, (n_values, largest) in extents[not is_undirected].items():
        if name == "labels":
            largest = max(n_classes - 1, 0)
        width = 4 if name == "node_features" else np.min_scalar_type(largest).itemsize
        counts[_PART_OF.get(name, name)] += 1 if name == "is_undirected" else n_values * width
    return counts | {"total": sum(counts.values())}


def paper_bytes(graphs: CondensedGraphs | GraphSet) -> int:
    """A byte for each label of a node or edge, and one for each end of an edge, as Mirage's authors count."""
    held = graphs if isinstance(graphs, GraphSet) else graphs.graphs
    return held.node_labels.size + held.edge_labels.size + held.edges.size


def write_condensed_graphs(out: Path, condensed: CondensedGraphs, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Write the dataset directory; what is in it is said by the manifest too. Returns the bytes, as `count_bytes`."""
    arrays = arrays_of(condensed)
    counts = count_bytes(condensed)
    stored = _of(out, arrays, condensed.graphs.ids, condensed.graphs.classes)
    stated = {
        "classes": list(stored.graphs.classes),
        "columns": stored.graphs.columns,
        "size_bytes": counts["total"],
        "bytes": counts,
        "paper_bytes": paper_bytes(stored),
    }
    with DatasetWriter(out, GraphRow, {**manifest, **stated}) as writer:
        for row in graph_rows(stored.graphs):
            writer.read()
            writer.write(row)
        writer.attach(FILE, save({name: np.ascontiguousarray(one) for name, one in sorted(arrays.items())}))
    return counts


def is_condensed_graphs(path: Path) -> bool:
    """Whether a stage wrote a condensed graph set there."""
    return is_dataset(path) and (path / FILE).is_file()


def read_condensed_graphs(path: Path) -> CondensedGraphs:
    """A condensed graph set; the edges of a graph come in the order of their sources, targets and labels.

    Raises:
        DataError: there is none, its file is cut short, or what it holds cannot be.
    """
    if not is_condensed_graphs(path):
        raise DataError(
            f"{path}: no condensed graph set (it has no {FILE}); give what `datastill condense_graphs` wrote"
        )
    manifest = read_manifest(path)
    ids: list[str] = [row["id"] for row in iterate(path)]
    try:
        return _of(path / FILE, load((path / FILE).read_bytes()), ids, manifest["classes"])
    except DataError:
        raise
    except Exception as error:  # safetensors raises an error of its own, of no stable type
        raise DataError(f"{path / FILE}: cannot be read ({error}); condense again") from None


def _stored_edges(graphs: GraphSet, as_directed: bool) -> tuple[Ints, Ints, bool]:
    """The edges in order and their labels, of two that are each other's reverse only one; and whether all are such."""
    rows = np.concatenate([graphs.edges, graphs.edge_labels.T])
    rows = rows[:, _order(rows)]
    if as_directed or not rows.shape[1]:
        return rows[:2], rows[2:].T, False
    swapped = np.concatenate([rows[1::-1], rows[2:]])
    is_undirected = bool((swapped[:, _order(swapped)] == rows).all())
    if is_undirected:
        rows = rows[:, rows[0] <= rows[1]]
    return rows[:2], rows[2:].T, is_undirected


def _order(rows: Ints) -> Ints:
    """Of columns: by their first number, then the second, and so on."""
    return np.lexsort(rows[::-1])


def _of(path: Path, arrays: Mapping[str, NDArray[Any]], ids: Sequence[str], classes: Sequence[str]) -> CondensedGraphs:
    node_offsets = np.concatenate([[0], np.cumsum(arrays["n_nodes"], dtype=np.int64)])
    n_nodes = int(node_offsets[-1])
    first = np.repeat(node_offsets[:-1], np.diff(node_offsets))  # node of the node's graph
    sources = np.repeat(np.arange(n_nodes), arrays["out_degrees"])
    rows = np.concatenate([[sources, first[sources] + arrays["targets"]], arrays["edge_labels"].T.astype(np.int64)])
    if arrays["is_undirected"][0]:
        other = rows[:, rows[0] != rows[1]]
        rows = np.concatenate([rows, np.concatenate([other[1::-1], other[2:]])], axis=1)
    rows = rows[:, _order(rows)]
    n_edges = np.diff(np.searchsorted(rows[0], node_offsets))
    graphs = graphs_of(
        path,
        GraphColumns(
            n_nodes=np.diff(node_offsets),
            n_edges=n_edges,
            edges=rows[:2] - np.repeat(node_offsets[:-1], n_edges),
            node_labels=arrays["node_labels"],
            edge_labels=rows[2:].T,
            node_features=arrays["node_features"],
            labels=arrays["labels"],
            ids=list(ids),
            classes=list(classes),
        ),
    )
    weights, degrees, roots = arrays.get("weights"), arrays.get("degrees"), arrays.get("is_root")
    found = CondensedGraphs(
        graphs=graphs,
        is_root=np.ones(n_nodes, np.bool_) if roots is None else np.unpackbits(roots, count=n_nodes).astype(np.bool_),
        weights=np.ones(len(graphs), np.float32) if weights is None else weights.astype(np.float32),
        degrees=None if degrees is None else degrees.astype(np.int64),
        codebook=arrays.get("codebook"),
    )
    _check(path, found)
    return found


def _check(path: Path, found: CondensedGraphs) -> None:
    """What is no part of a graph set fits it.

    Raises:
        DataError: it does not.
    """
    said = "condense again"
    if found.weights.shape != (len(found),) or not (np.isfinite(found.weights) & (found.weights > 0)).all():
        raise DataError(f"{path}: weights are {found.weights.tolist()[:5]}...; each graph has one above 0; {said}")
    n_roots = np.bincount(found.graphs.graph_of_node[found.is_root], minlength=len(found))
    if not n_roots.all():
        raise DataError(f"{path}: graph {found.graphs.ids[int(n_roots.argmin())]!r} has no root; {said}")
    if found.degrees is not None and found.degrees.shape != (found.graphs.n_nodes,):
        raise DataError(f"{path}: {found.degrees.size} degrees for {found.graphs.n_nodes} nodes; {said}")
    if (codebook := found.codebook) is not None:
        largest = int(found.graphs.node_labels[:, -1].max()) if found.graphs.node_labels.shape[1] else -1
        if codebook.ndim != 2 or not np.isfinite(codebook).all() or not 0 <= largest < len(codebook):
            raise DataError(
                f"{path}: a codebook of shape {codebook.shape} for codes up to {largest}; its numbers are finite, and "
                f"the last column of node labels numbers its rows; {said}"
            )


def _smallest(values: Ints) -> Ints:
    """In the smallest unsigned type that holds the largest; a byte where there is none."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
