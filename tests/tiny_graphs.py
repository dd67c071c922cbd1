"""Small graphs: written out by hand, drawn by a seed, and as a folder of the TU collection."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datagen.contracts.graphs import GraphSet

Edge = tuple[int, int]


def graph_set(
    graphs: Sequence[tuple[int, Sequence[Edge]]],
    *,
    node_labels: Sequence[int] | None = None,
    edge_labels: Sequence[int] | None = None,
    node_features: Sequence[Sequence[float]] | None = None,
    labels: Sequence[int] | None = None,
    undirected: bool = True,
) -> GraphSet:
    """Of (number of nodes, edges within the graph); an undirected edge, and its label, is there twice.

    Labels of graphs are 0, 1, 0, 1 and so on, where they are not given.
    """
    n_nodes = [n for n, _ in graphs]
    starts = np.concatenate([[0], np.cumsum(n_nodes)]).astype(np.int64)
    n_ways = 2 if undirected else 1
    directed = [
        (a + start, b + start)
        for (_, edges), start in zip(graphs, starts[:-1].tolist(), strict=True)
        for edge in edges
        for a, b in (edge, edge[::-1])[:n_ways]
    ]
    of_edges = np.repeat(np.array(edge_labels or [], np.int64), n_ways)
    classes = labels or [i % 2 for i in range(len(graphs))]
    return GraphSet(
        node_offsets=starts,
        edge_offsets=np.concatenate([[0], np.cumsum([n_ways * len(edges) for _, edges in graphs])]).astype(np.int64),
        edges=np.array(directed, np.int64).reshape(-1, 2).T,
        node_labels=np.zeros((starts[-1], 0), np.int64) if node_labels is None else np.array(node_labels)[:, None],
        edge_labels=np.zeros((len(directed), 0), np.int64) if edge_labels is None else of_edges[:, None],
        node_features=np.array(node_features if node_features is not None else [[]] * starts[-1], np.float32),
        labels=np.array(classes, np.int64),
        ids=[f"tiny-{i}" for i in range(len(graphs))],
        classes=[f"class {i}" for i in range(max(classes) + 1)],
    )


def random_graphs(
    n: int, seed: int, *, most_nodes: int = 9, n_labels: int = 3, n_edge_labels: int = 2, density: float = 0.3
) -> GraphSet:
    """Undirected graphs of 1 to `most_nodes` nodes, no edge twice, no self-loop; classes 0 and 1 in turns."""
    generator = np.random.default_rng(seed)
    graphs: list[tuple[int, list[Edge]]] = []
    for _ in range(n):
        size = int(generator.integers(1, most_nodes + 1))
        pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
        graphs.append((size, [pair for pair in pairs if generator.random() < density]))
    return graph_set(
        graphs,
        node_labels=generator.integers(0, n_labels, sum(size for size, _ in graphs)).tolist(),
        edge_labels=generator.integers(0, n_edge_labels, sum(len(edges) for _, edges in graphs)).tolist(),
    )


def write_tu(folder: Path, graphs: GraphSet, name: str = "TINY") -> Path:
    """As TUDataset of PyTorch Geometric wants it: folder/NAME/raw/NAME_*.txt; returns folder/NAME."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)

    def write(part: str, rows: np.ndarray) -> None:
        lines = [", ".join(map(str, row)) for row in np.atleast_2d(rows.T).T.tolist()]
        (raw / f"{name}_{part}.txt").write_text("".join(f"{line}\n" for line in lines))

    write("A", graphs.edges.T + 1)
    write("graph_indicator", graphs.graph_of_node + 1)
    write("graph_labels", graphs.labels)
    for part, table in (
        ("node_labels", graphs.node_labels),
        ("edge_labels", graphs.edge_labels),
        ("node_attributes", graphs.node_features),
    ):
        if table.shape[1]:
            write(part, table)
    return folder / name


def assert_same(found: GraphSet, wanted: GraphSet) -> None:
    """The same graphs in the same order, whatever the order of a graph's edges."""
    for name in ("node_offsets", "edge_offsets", "node_labels", "node_features", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
    rows = [np.concatenate([one.edges, one.edge_labels.T]) for one in (found, wanted)]
    mine, theirs = (one[:, np.lexsort(one[::-1])] for one in rows)
    np.testing.assert_array_equal(mine, theirs)
    assert (list(found.ids), list(found.classes)) == (list(wanted.ids), list(wanted.classes))
