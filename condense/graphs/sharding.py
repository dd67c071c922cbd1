"""Which trees each graph has, counted shard by shard: here or on the workers of dask.distributed.

A shard is some graphs. Whoever has it finds the trees of all its nodes at every depth, and gives back the tables of
those trees, which are far fewer than nodes, with the trees that each graph has. The tables are merged level by level
into one, and each graph's trees renumbered by it, so that the result does not depend on how the graphs were cut. No
more than some shards are in memory at a time; what stays is a number or two for each graph and tree that it has, and
the tables.

Source: none; trees are those of `computation_trees`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from condense.graphs.computation_trees import TreeTables, merge, tree_ids
from condense.graphs.itemsets import MINERS, Holdings, Itemset, ordered, search, too_many
from datagen.contracts.cluster import is_named, map_chunks
from datagen.contracts.dataset import read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.graphs import GraphSet, Ints, count_rows, read_part

SHARD = 2000  # graphs
MANY_ITEMS, N_PARTS = 200, 16  # fewer items than that are mined faster than they are sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """A dataset of Graphs of which a Parquet file is read at a time, by whoever works on it.

    Attributes:
        path: of the dataset, on a file system that all workers see.
    """

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Which trees each graph has, and how often.

    Attributes:
        tables: the trees.
        classes: names, in the order of the labels.
        labels: (G,) of the graphs.
        offsets: (G + 1,) graph g has the trees from offsets[g] to offsets[g + 1].
        trees: (N,) those that a graph has, ascending, each once.
        counts: (N,) of how many of its nodes they are.
    """

    tables: TreeTables
    classes: Sequence[str]
    labels: Ints
    offsets: Ints
    trees: Ints
    counts: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A census without names, and the tables of its trees; `sizes` is the number of trees of each graph."""

    tables: TreeTables | None
    labels: Ints
    sizes: Ints
    trees: Ints
    counts: Ints


_Chunk = GraphSet | Path


def n_label_columns(graphs: GraphSet | Shards) -> int:
    """How many labels a node has."""
    if isinstance(graphs, Shards):
        return int(read_manifest(graphs.path)["columns"]["node_labels"])
    return graphs.node_labels.shape[1]


def take_census(graphs: GraphSet | Shards, layers: int, *, degrees: bool = False) -> Census:
    """The trees of depth `layers` of each graph; see `tree_ids` for `degrees`.

    Graphs in memory are one shard where there is no cluster, and are sent to the workers where there is one.

    Raises:
        DataError: the dataset holds what cannot be used, or a worker does not see it.
    """
    count = partial(_count, layers, degrees)
    if isinstance(graphs, Shards):
        classes: Sequence[str] = read_manifest(graphs.path)["classes"]
        chunks: Iterable[_Chunk] = filter(count_rows, sorted(graphs.path.glob("part-*.parquet")))
    else:
        classes = graphs.classes
        chunks = _slices(graphs, SHARD) if is_named() else [graphs]
    return _merged((part for _, part in map_chunks(count, chunks)), classes)


def mine(kind: str, held: Holdings, cap: int) -> list[Itemset]:
    """The itemsets of a kind of `MINERS`, in parts that the workers of a cluster share, where there is one.

    Raises:
        TooMany: there are more than `cap`; of maximal ones the cap is on the closed ones, among which they are found.
    """
    if (n := len(held.items)) < MANY_ITEMS:
        return MINERS[kind](held, cap=cap)
    parts = [list(range(i, n, N_PARTS)) for i in range(N_PARTS)]
    found: list[Itemset] = []
    n_counted = 0
    for _, (some, counted) in map_chunks(partial(_mine, kind, held, cap), parts):
        found += some
        n_counted += counted
        if n_counted > cap:
            raise too_many(held.threshold, cap)
    return ordered(found)


def _mine(kind: str, held: Holdings, cap: int, starts: Sequence[int]) -> tuple[list[Itemset], int]:
    return search(kind, held, cap=cap, starts=starts)


def _slices(graphs: GraphSet, n: int) -> Iterator[GraphSet]:
    """Some graphs at a time, without what is not read, in the smallest integers."""
    for start in range(0, len(graphs), n):
        stop = min(start + n, len(graphs))
        nodes = slice(graphs.node_offsets[start], graphs.node_offsets[stop])
        edges = slice(graphs.edge_offsets[start], graphs.edge_offsets[stop])
        yield replace(
            graphs,
            node_offsets=graphs.node_offsets[start : stop + 1] - graphs.node_offsets[start],
            edge_offsets=graphs.edge_offsets[start : stop + 1] - graphs.edge_offsets[start],
            edges=_small(graphs.edges[:, edges] - graphs.node_offsets[start]),
            node_labels=_small(graphs.node_labels[nodes]),
            edge_labels=_small(graphs.edge_labels[edges]),
            node_features=graphs.node_features[:0, :0],
            labels=graphs.labels[start:stop],
            ids=(),
        )


def _small(values: Ints) -> Ints:
    """In the smallest unsigned integers; as they are where one is negative, which whoever counts refuses."""
    if values.min(initial=0) < 0:
        return values
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _count(layers: int, degrees: bool, chunk: _Chunk) -> _Part:
    """What a worker does."""
    graphs = _read(chunk) if isinstance(chunk, Path) else replace(chunk, edges=chunk.edges.astype(np.int64))
    found = tree_ids(graphs, layers, degrees=degrees)
    n_trees = max(1, found.tables.n_trees(layers))
    held, counts = np.unique(graphs.graph_of_node * n_trees + found.ids, return_counts=True)
    return _Part(
        tables=found.tables,
        labels=graphs.labels,
        sizes=np.bincount(held // n_trees, minlength=len(graphs)),
        trees=_small(held % n_trees),
        counts=_small(counts),
    )


def _read(file: Path) -> GraphSet:
    if not file.is_file():
        raise DataError(f"{file}: not there; a worker reads it, so put the dataset where all workers see it")
    return read_part(file)


def _merged(parts: Iterable[_Part], classes: Sequence[str]) -> Census:
    """One census; tables are merged when those that came since have as many rows as all before them."""
    done: TreeTables | None = None
    waiting: list[TreeTables] = []
    held: list[_Part] = []
    maps: list[tuple[int, Ints]] = []  # of each part, to the trees after so many moves
    moves: list[Ints] = []  # of the trees that were there, as others came between them

    def flush() -> None:
        nonlocal done
        earlier = [] if done is None else [done]
        done, found = merge([*earlier, *waiting])
        if earlier and len(found[0]) < done.n_trees(len(done.levels)):
            moves.append(found[0])
        maps.extend((len(moves), one) for one in found[len(earlier) :])
        waiting.clear()

    for part in parts:
        assert part.tables is not None
        waiting.append(part.tables)
        held.append(replace(part, tables=None))
        if done is None or sum(map(_n_rows, waiting)) >= _n_rows(done):
            flush()
    if waiting:
        flush()
    if done is None:
        raise DataError("graphs: there is none; give a set that has some")
    to_last = [np.arange(done.n_trees(len(done.levels)))]  # after all moves, all but the last ...
    for move in reversed(moves):
        to_last.append(to_last[-1][move])
    numbers = [to_last[len(moves) - after][one] for after, one in maps]
    return Census(
        tables=done,
        classes=classes,
        labels=np.concatenate([part.labels for part in held]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.sizes for part in held]))]),
        trees=np.concatenate([_small(of[part.trees]) for of, part in zip(numbers, held, strict=True)]),
        counts=np.concatenate([part.counts for part in held]),
    )


def _n_rows(tables: TreeTables) -> int:
    return sum(len(level.children) for level in tables.levels) + len(tables.node_labels)
