"""Graph sets: real graphs, and the small sets that are condensed from them. Arrays of numpy, all graphs end to end.

Axes: G graphs, V nodes of all graphs, E directed edges of all graphs, F columns of discrete node labels, H columns of
discrete edge labels, D continuous node features.

A dataset of Graphs holds a row a graph:

    part-00000.parquet      id, label, n_nodes, edges, labels and features of nodes and edges
    manifest.json           with `classes`, their names in the order of the labels, and `columns`: F, H and D

A graph may have no edge, nodes that no edge touches, self-loops, edges more than once and in one direction alone: edges
are taken as they are. A graph without a node is refused.

Source: none; the layout is that of disjoint unions, as PyTorch Geometric batches graphs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datagen.contracts.dataset import is_dataset, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.graph_folders import GraphColumns, is_ogb, is_tu, read_ogb, read_tu

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float32]
_ALL = 2048  # graphs at a time, where all are read


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRow:
    """A graph with its class; its nodes are numbered from 0.

    Attributes:
        id: unique in its dataset.
        label: position of its class among the dataset's `classes`.
        n_nodes: 1 or more.
        sources: of its directed edges.
        targets: likewise.
        node_labels: a list of F a node.
        edge_labels: a list of H an edge.
        node_features: a list of D a node.
    """

    id: str
    label: int
    n_nodes: int
    sources: list[int]
    targets: list[int]
    node_labels: list[list[int]]
    edge_labels: list[list[int]]
    node_features: list[list[float]]

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "label": pl.Int64,
        "n_nodes": pl.Int64,
        "sources": pl.List(pl.Int64),
        "targets": pl.List(pl.Int64),
        "node_labels": pl.List(pl.List(pl.Int64)),
        "edge_labels": pl.List(pl.List(pl.Int64)),
        "node_features": pl.List(pl.List(pl.Float32)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSet:
    """Graphs in memory.

    Attributes:
        node_offsets: (G + 1,) int64; graph g has the nodes from node_offsets[g] to node_offsets[g + 1].
        edge_offsets: (G + 1,) int64; likewise for edges.
        edges: (2, E) int64, source above target, numbered over all graphs; an undirected edge is there twice. A node
            listens to the sources of the edges that it is the target of.
        node_labels: (V, F) int64, 0 or more; F is 0 where nodes have no labels.
        edge_labels: (E, H) int64, 0 or more; H is 0 where edges have no labels.
        node_features: (V, D) float32, finite; D is 0 where nodes have no continuous features.
        labels: (G,) int64, each in [0, number of classes).
        ids: G names, each once.
        classes: names, in the order of the labels.
    """

    node_offsets: Ints
    edge_offsets: Ints
    edges: Ints
    node_labels: Ints
    edge_labels: Ints
    node_features: Floats
    labels: Ints
    ids: Sequence[str]
    classes: Sequence[str]

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self.labels)

    @property
    def n_nodes(self) -> int:
        """Of all graphs."""
        return int(self.node_offsets[-1])

    @property
    def graph_of_node(self) -> Ints:
        """(V,) the graph of each node."""
        return np.repeat(np.arange(len(self)), np.diff(self.node_offsets))

    @property
    def degrees(self) -> Ints:
        """(V,) how many edges each node is the target of; a self-loop is one."""
        return np.bincount(self.edges[1], minlength=self.n_nodes)

    @property
    def columns(self) -> dict[str, int]:
        """F, H and D, as a manifest has them."""
        return {name: getattr(self, name).shape[1] for name in ("node_labels", "edge_labels", "node_features")}

    def take(self, chosen: Ints) -> "GraphSet":
        """The graphs at these positions, in their order; one may come twice, under an id of its own then."""
        nodes, node_offsets = _spans(self.node_offsets, chosen)
        edges, edge_offsets = _spans(self.edge_offsets, chosen)
        moved = np.repeat(node_offsets[:-1] - self.node_offsets[chosen], np.diff(edge_offsets))
        return GraphSet(
            node_offsets=node_offsets,
            edge_offsets=edge_offsets,
            edges=self.edges[:, edges] + moved,
            node_labels=self.node_labels[nodes],
            edge_labels=self.edge_labels[edges],
            node_features=self.node_features[nodes],
            labels=self.labels[chosen],
            ids=_each_once([self.ids[i] for i in map(int, chosen)]),
            classes=self.classes,
        )


def read_graphs(path: Path) -> GraphSet:
    """A graph set: a dataset of Graphs, a folder of the TU collection, or one of OGB.

    Raises:
        DataError: none of them, or what it holds cannot be used; the message names the place and the remedy.
    """
    if is_dataset(path):
        found = list(iterate_graphs(path, _ALL))
        if not found:
            raise DataError(f"{path}: holds no graph")
        return joined(found)
    if is_tu(path):
        return graphs_of(path, read_tu(path))
    if is_ogb(path):
        return graphs_of(path, read_ogb(path))
    raise DataError(
        f"{path}: no graph set; give what `datastill graphs` wrote, a folder of the TU collection with NAME_A.txt, or "
        "one of OGB with raw/edge.csv.gz"
    )


def iterate_graphs(path: Path, n: int) -> Iterator[GraphSet]:
    """The graphs of a dataset, at most `n` at a time; a row group of the Parquet files is in memory besides.

    Raises:
        DataError: no dataset of Graphs, or it holds what cannot be used.
    """
    manifest = read_manifest(path)
    if (held := manifest.get("record")) != "GraphRow":
        raise DataError(f"{path}: holds {held} rows; give what `datastill graphs` wrote")
    for file in sorted(path.glob("part-*.parquet")):
        for frame in pl.scan_parquet(file).collect_batches(chunk_size=n, maintain_order=True):
            for start in range(0, len(frame), n):
                yield graphs_of(path, _columns(frame[start : start + n], manifest))


def count_rows(file: Path) -> int:
    """How many graphs a Parquet file of a dataset holds; of a block whose rows were all refused, none."""
    return int(pl.scan_parquet(file).select(pl.len()).collect().item())


def read_part(file: Path) -> GraphSet:
    """The graphs of one Parquet file of a dataset of Graphs; raises as `iterate_graphs`."""
    return graphs_of(file, _columns(pl.read_parquet(file), read_manifest(file.parent)))


def joined(sets: Sequence[GraphSet]) -> GraphSet:
    """All graphs of sets with the same columns and classes, of which there is one or more."""
    if len(sets) == 1:
        return sets[0]
    first = np.cumsum([0, *(one.n_nodes for one in sets)])
    return GraphSet(
        node_offsets=_offsets(np.concatenate([np.diff(one.node_offsets) for one in sets])),
        edge_offsets=_offsets(np.concatenate([np.diff(one.edge_offsets) for one in sets])),
        edges=np.concatenate([one.edges + start for one, start in zip(sets, first[:-1], strict=True)], axis=1),
        node_labels=np.concatenate([one.node_labels for one in sets]),
        edge_labels=np.concatenate([one.edge_labels for one in sets]),
        node_features=np.concatenate([one.node_features for one in sets]),
        labels=np.concatenate([one.labels for one in sets]),
        ids=[id for one in sets for id in one.ids],
        classes=sets[0].classes,
    )


def graphs_of(path: Path, columns: GraphColumns) -> GraphSet:
    """What a folder or table holds, checked.

    Raises:
        DataError: what it holds is no graph set; `path` is named.
    """
    n_nodes, n_edges = columns.n_nodes, columns.n_edges
    if not len(n_nodes):
        raise DataError(f"{path}: holds no graph")
    if (empty := n_nodes < 1).any():
        raise DataError(f"{path}: graph {columns.ids[int(empty.argmax())]!r} has no node; leave it out")
    counts = {"node labels": columns.node_labels, "node features": columns.node_features}
    for what, table, wanted in (
        *((what, table, int(n_nodes.sum())) for what, table in counts.items()),
        ("edges", columns.edges.T, int(n_edges.sum())),
        ("edge labels", columns.edge_labels, int(n_edges.sum())),
        ("labels", columns.labels, len(n_nodes)),
    ):
        if len(table) != wanted:
            raise DataError(f"{path}: {len(table)} rows of {what}; the graphs' own counts say {wanted}")
    owner = np.repeat(np.arange(len(n_nodes)), n_edges)
    if (outside := ((columns.edges < 0) | (columns.edges >= n_nodes[owner])).any(axis=0)).any():
        i = int(outside.argmax())
        source, target = columns.edges[:, i].tolist()
        raise DataError(
            f"{path}: {columns.edges_at} {i + 1}: from node {source} to node {target} of graph "
            f"{columns.ids[owner[i]]!r}, whose nodes run from 0 to {n_nodes[owner[i]] - 1}"
        )
    for what, table in (("node", columns.node_labels), ("edge", columns.edge_labels)):
        if table.size and table.min() < 0:
            raise DataError(f"{path}: a {what} label is {table.min()}; count them from 0")
    with np.errstate(over="ignore"):  # the check below finds what float32 cannot hold
        features = columns.node_features.astype(np.float32)
    if (bad := ~np.isfinite(features).all(axis=1)).any():
        node = int(bad.argmax())
        graph = int(np.searchsorted(np.cumsum(n_nodes), node, side="right"))
        raise DataError(
            f"{path}: a node of graph {columns.ids[graph]!r} has a feature that is NaN, infinite or too large"
        )
    labels = columns.labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(columns.classes):
        raise DataError(
            f"{path}: labels run from {labels.min()} to {labels.max()}; there are {len(columns.classes)} classes"
        )
    node_offsets = _offsets(n_nodes)
    return GraphSet(
        node_offsets=node_offsets,
        edge_offsets=_offsets(n_edges),
        edges=columns.edges.astype(np.int64) + node_offsets[:-1][owner],
        node_labels=columns.node_labels.astype(np.int64),
        edge_labels=columns.edge_labels.astype(np.int64),
        node_features=features,
        labels=labels,
        ids=columns.ids,
        classes=columns.classes,
    )


def check_graph_classes(graphs: GraphSet, path: Path, least: int) -> None:
    """Every class has `least` graphs or more.

    Raises:
        DataError: with the first class that has not.
    """
    counts = np.bincount(graphs.labels, minlength=len(graphs.classes))
    for name, count in zip(graphs.classes, counts.tolist(), strict=True):
        if count < least:
            raise DataError(f"{path}: class {name!r} has {count} graphs and needs {least}; add some, or ask for fewer")


def label_by_degree(graphs: GraphSet) -> GraphSet:
    """The same graphs, a node's one label being its degree, for sets whose nodes have none.

    Source: the labels that papers give IMDB-BINARY, such as Xu et al. 2018, arXiv:1810.00826, section 7.
    """
    return replace(graphs, node_labels=graphs.degrees[:, None])


def graph_rows(graphs: GraphSet) -> Iterator[GraphRow]:
    """Each graph as a row of a dataset."""
    for g in range(len(graphs)):
        nodes = slice(int(graphs.node_offsets[g]), int(graphs.node_offsets[g + 1]))
        edges = slice(int(graphs.edge_offsets[g]), int(graphs.edge_offsets[g + 1]))
        sources, targets = (graphs.edges[:, edges] - graphs.node_offsets[g]).tolist()
        yield GraphRow(
            id=graphs.ids[g],
            label=int(graphs.labels[g]),
            n_nodes=nodes.stop - nodes.start,
            sources=sources,
            targets=targets,
            node_labels=graphs.node_labels[nodes].tolist(),
            edge_labels=graphs.edge_labels[edges].tolist(),
            node_features=graphs.node_features[nodes].tolist(),
        )


def _columns(frame: pl.DataFrame, manifest: dict[str, Any]) -> GraphColumns:
    n_nodes, n_edges = frame["n_nodes"].to_numpy(), frame["sources"].list.len().to_numpy().astype(np.int64)

    def table(name: str, n_rows: Any) -> NDArray[Any]:
        n_columns = manifest["columns"][name]
        if not n_columns:
            return np.zeros((int(n_rows.sum()), 0), np.float32 if name == "node_features" else np.int64)
        return frame[name].explode().drop_nulls().explode().to_numpy().reshape(-1, n_columns)

    return GraphColumns(
        n_nodes=n_nodes,
        n_edges=n_edges,
        edges=np.stack([frame[name].explode().drop_nulls().to_numpy() for name in ("sources", "targets")]),
        node_labels=table("node_labels", n_nodes),
        edge_labels=table("edge_labels", n_edges),
        node_features=table("node_features", n_nodes),
        labels=frame["label"].to_numpy(),
        ids=frame["id"].to_list(),
        classes=manifest["classes"],
    )


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _spans(offsets: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """The positions of what the chosen graphs have, end to end, and the new offsets."""
    sizes = np.diff(offsets)[chosen]
    new = _offsets(sizes)
    return np.arange(int(new[-1])) + np.repeat(offsets[:-1][chosen] - new[:-1], sizes), new


def _each_once(ids: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found: list[str] = []
    for one in ids:
        seen[one] = seen.get(one, 0) + 1
        found.append(one if seen[one] == 1 else f"{one}#{seen[one]}")
    return found
