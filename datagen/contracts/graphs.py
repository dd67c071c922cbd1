"""Graph sets: real graphs, and the small sets that are condensed from them. Arrays of numpy, all graphs end to end.

Axes: G graphs, V nodes of all graphs, E directed edges of all graphs, F columns of discrete node labels, H columns of
discrete edge labels, D continuous node features.

Source: none; the layout is that of disjoint unions, as PyTorch Geometric batches graphs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float32]


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


def _spans(offsets: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """The positions of what the chosen graphs have, end to end, and the new offsets."""
    sizes = np.diff(offsets)[chosen]
    new = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return np.arange(new[-1]) + np.repeat(offsets[:-1][chosen] - new[:-1], sizes), new


def _each_once(ids: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found: list[str] = []
    for one in ids:
        seen[one] = seen.get(one, 0) + 1
        found.append(one if seen[one] == 1 else f"{one}#{seen[one]}")
    return found
