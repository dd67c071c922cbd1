"""Small graphs whose class can be seen, and their computation trees by brute force."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from condense.condensed_graphs import CondensedGraphs
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.graphs import GraphRow, GraphSet, graph_rows

N_LABELS, N_EDGE_LABELS = 4, 3
Edge = tuple[int, int, int]  # source, target, label


def graph_set(
    sizes: Sequence[int],
    edges: Sequence[Sequence[Edge]],
    node_labels: Sequence[Sequence[int]],
    labels: Sequence[int],
    name: str = "graph",
) -> GraphSet:
    """Graphs of which nodes are numbered each by itself; directed edges, two columns of node labels, one of edges."""
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ends = [(s + start, t + start) for one, start in zip(edges, starts, strict=False) for s, t, _ in one]
    marks = [label for one in edges for _, _, label in one]
    first = np.array([label for one in node_labels for label in one], dtype=np.int64)
    return GraphSet(
        node_offsets=starts,
        edge_offsets=np.concatenate([[0], np.cumsum([len(one) for one in edges])]).astype(np.int64),
        edges=np.array(ends, dtype=np.int64).reshape(-1, 2).T.copy(),
        node_labels=np.stack([first, (first * first) % 3], axis=1),
        edge_labels=np.array(marks, dtype=np.int64).reshape(-1, 1),
        node_features=np.zeros((len(first), 0), dtype=np.float32),
        labels=np.array(labels, dtype=np.int64),
        ids=[f"{name}-{i}" for i in range(len(sizes))],
        classes=["no", "yes"],
    )


def labelled_graphs(n: int, seed: int = 0, *, directed: bool = False, name: str = "graph") -> GraphSet:
    """`n` random graphs of 4 to 8 nodes, classes by turns; nodes of class `yes` often have label 3, others never.

    Among the edges are self-loops, edges that are there twice, and nodes that none leads to.
    """
    generator = np.random.default_rng(seed)
    sizes, edges, node_labels = [], [], []
    for i in range(n):
        size = int(generator.integers(4, 9))
        pairs = [tuple(map(int, generator.integers(0, size, 2))) for _ in range(size + 2)]
        marked = [(a, b, int(generator.integers(0, N_EDGE_LABELS))) for a, b in pairs]
        back = [] if directed else [(b, a, mark) for a, b, mark in marked if a != b]
        sizes.append(size)
        edges.append([*marked, *back])
        node_labels.append([int(one) for one in generator.integers(0, 3, size)])
        if i % 2:
            node_labels[-1][: size // 2] = [3] * (size // 2)
    return graph_set(sizes, edges, node_labels, [i % 2 for i in range(n)], name)


def computation_trees(graphs: GraphSet, layers: int, *, degrees: bool) -> CondensedGraphs:
    """The tree of every node of every graph, written out breadth first, all trees of a graph beside each other.

    Roots come in the order of the nodes, each before the rest of its tree; edges run from child to parent.
    """
    into = [np.flatnonzero(graphs.edges[1] == node) for node in range(graphs.n_nodes)]
    origin: list[int] = []  # of each tree node, the node that it stands for
    edges: list[tuple[int, int]] = []
    marks: list[int] = []  # of each tree edge, the edge that it stands for
    is_root: list[bool] = []
    node_offsets, edge_offsets = [0], [0]
    for graph in range(len(graphs)):
        for node in range(graphs.node_offsets[graph], graphs.node_offsets[graph + 1]):
            last = [(len(origin), node)]
            origin.append(node)
            is_root.append(True)
            for _ in range(layers):
                below: list[tuple[int, int]] = []
                for parent, of in last:
                    for edge in into[of]:
                        child = int(graphs.edges[0, edge])
                        edges.append((len(origin), parent))
                        marks.append(int(edge))
                        below.append((len(origin), child))
                        origin.append(child)
                        is_root.append(False)
                last = below
        node_offsets.append(len(origin))
        edge_offsets.append(len(edges))
    trees = GraphSet(
        node_offsets=np.array(node_offsets),
        edge_offsets=np.array(edge_offsets),
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T.copy(),
        node_labels=graphs.node_labels[origin],
        edge_labels=graphs.edge_labels[marks],
        node_features=graphs.node_features[origin],
        labels=graphs.labels,
        ids=graphs.ids,
        classes=graphs.classes,
    )
    return CondensedGraphs(
        graphs=trees,
        is_root=np.array(is_root),
        weights=np.ones(len(graphs), dtype=np.float32),
        degrees=np.array([len(into[of]) for of in origin]) if degrees else None,
    )


def write_graphs(out: Path, graphs: GraphSet) -> Path:
    """A dataset of Graphs."""
    manifest = {"classes": list(graphs.classes), "columns": graphs.columns}
    with DatasetWriter(out, GraphRow, manifest) as writer:
        for row in graph_rows(graphs):
            writer.read()
            writer.write(row)
    return out
