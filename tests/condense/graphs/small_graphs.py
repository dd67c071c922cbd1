"""Small graph sets of which answers are known, and trees written out as texts."""

from collections.abc import Sequence

import numpy as np

from datagen.contracts.graphs import GraphSet

Edge = tuple[int, int] | tuple[int, int, int]  # source, target and its label


def graph_set(
    *graphs: tuple[Sequence[object], Sequence[Edge], int],
    undirected: bool = True,
    classes: Sequence[str] = ("no", "yes"),
) -> GraphSet:
    """Of graphs, each the labels of its nodes (a number or a tuple), its edges and its class."""
    n_nodes, n_edges, rows = [], [], []
    for labels, edges, _ in graphs:
        both = [*edges, *((one[1], one[0], *one[2:]) for one in edges if undirected and one[0] != one[1])]
        rows += [[sum(n_nodes) + one[0], sum(n_nodes) + one[1], *one[2:]] for one in both]
        n_nodes.append(len(labels))
        n_edges.append(len(both))
    table = np.array(rows, dtype=np.int64).reshape(len(rows), -1 if rows else 2)
    node_labels = [np.atleast_1d(np.array(one)) for labels, *_ in graphs for one in labels]
    return GraphSet(
        node_offsets=np.cumsum([0, *n_nodes]),
        edge_offsets=np.cumsum([0, *n_edges]),
        edges=np.ascontiguousarray(table[:, :2].T),
        node_labels=np.array(node_labels, dtype=np.int64).reshape(len(node_labels), -1 if node_labels else 1),
        edge_labels=table[:, 2:],
        node_features=np.zeros((len(node_labels), 0), dtype=np.float32),
        labels=np.array([label for *_, label in graphs], dtype=np.int64),
        ids=[f"g{i}" for i in range(len(graphs))],
        classes=classes,
    )


def random_graphs(seed: int, n_graphs: int, *, n_labels: int = 2, edge_columns: int = 1) -> GraphSet:
    """Directed, with self-loops, double edges, isolated nodes and a graph without any node."""
    draw = np.random.default_rng(seed)
    n_nodes = draw.integers(1, 9, n_graphs)
    n_nodes[0] = 0
    n_edges = np.where(n_nodes, draw.integers(0, 16, n_graphs), 0)
    ends = np.repeat(n_nodes, n_edges)
    starts = np.repeat(np.cumsum(n_nodes) - n_nodes, n_edges)
    total = int(n_nodes.sum())
    return GraphSet(
        node_offsets=np.cumsum([0, *n_nodes]),
        edge_offsets=np.cumsum([0, *n_edges]),
        edges=starts + draw.integers(0, ends, (2, len(ends))),
        node_labels=draw.integers(0, n_labels, (total, 2)),
        edge_labels=draw.integers(0, 2, (len(ends), edge_columns)),
        node_features=np.zeros((total, 0), dtype=np.float32),
        labels=np.arange(n_graphs) % 2,
        ids=[f"r{i}" for i in range(n_graphs)],
        classes=["no", "yes"],
    )


def texts(graphs: GraphSet, depth: int, *, degrees: bool = False) -> list[str]:
    """The tree of each node, written out: its label, then its children in the order of their texts."""
    into: list[list[tuple[str, int]]] = [[] for _ in range(graphs.n_nodes)]
    for source, target, label in zip(*graphs.edges.tolist(), graphs.edge_labels.tolist(), strict=True):
        into[target].append((str(label), source))
    roots = [
        f"{label}{len(into[v]) if degrees else ''}" for v, label in enumerate(graphs.node_labels.tolist())
    ]  # fmt: skip

    def text(node: int, left: int) -> str:
        children = sorted(edge + text(source, left - 1) for edge, source in into[node]) if left else []
        return f"{roots[node]}({''.join(children)})"

    return [text(node, depth) for node in range(graphs.n_nodes)]


def partition(names: Sequence[object]) -> list[int]:
    """The first place that has each place's name: equal for equal partitions, whatever the names."""
    first: dict[object, int] = {}
    return [first.setdefault(name, i) for i, name in enumerate(names)]
