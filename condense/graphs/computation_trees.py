"""Computation trees: what a network of L layers sees of each node, as numbers that are equal where the trees are.

The tree of depth 0 at a node is its label. The tree of depth k has the node's label at its root, and below it, for
each edge that the node is the target of, the label of the edge and the tree of depth k - 1 at the edge's source. So a
node that two edges lead to has two children, a self-loop makes a node its own child, edges of one direction lead one
way, and an isolated node is a tree of one node at every depth. Equal numbers at depth k are the colours of k rounds of
Weisfeiler and Leman's refinement, and a network of k layers gives equal trees equal embeddings.

A tree is interned, level by level: its row (root label; edge label and child, sorted) is ranked among all rows, so that
no two trees share a number, as two hashes might. Trees of a level are ordered by the number of children, then the
root's label, then the children. The order of two trees does not depend on the others, so the numbers of a part of a
set are those of the whole but for gaps, which makes `merge` cheap and exact. Cost: O(L E log E) time and O(E) memory.

Source: Gupta et al. Mirage. 2023. arXiv:2310.09486, sections 3.1 and 3.2 and appendix B.1, which write each tree out as
a canonical text (time in the number of tree nodes, d^L a node); Shervashidze et al. Weisfeiler-Lehman Graph Kernels.
2011, algorithm 2, for the refinement. Departure: `degrees`, see `tree_ids`.

Axes: V nodes, E edges, F node labels, H edge labels; n trees of a level and m children of them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from condense.graphs._ranking import rank_rows, sort_within
from datagen.contracts.graphs import GraphSet, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The trees of one depth above 0.

    Attributes:
        roots: (n,) the tree of depth 0 that is the root alone.
        offsets: (n + 1,) tree t has the children from offsets[t] to offsets[t + 1].
        edges: (m,) the row of `edge_labels` of the edge to each child.
        children: (m,) trees of the level below; of one tree sorted by edge, then child.
    """

    roots: Ints
    offsets: Ints
    edges: Ints
    children: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeTables:
    """All that is needed to draw a tree from its number.

    Attributes:
        node_labels: (n, F) of the trees of depth 0.
        degrees: (n,) of the trees of depth 0, or None where trees do not tell degrees apart.
        edge_labels: (kinds, H) the edge labels that occur, each once, in order.
        levels: of depth 1, 2 ... L.
    """

    node_labels: Ints
    degrees: Ints | None
    edge_labels: Ints
    levels: tuple[Level, ...]

    def n_trees(self, depth: int) -> int:
        """Of that depth."""
        return len(self.levels[depth - 1].roots) if depth else len(self.node_labels)

    def n_nodes(self) -> Ints:
        """How many nodes each tree of the greatest depth has, root and repeated neighbours included."""
        counts = np.ones(self.n_trees(0), dtype=np.int64)
        for level in self.levels:
            total = np.concatenate([[0], np.cumsum(counts[level.children])])
            counts = 1 + total[level.offsets[1:]] - total[level.offsets[:-1]]
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeIds:
    """The trees of all nodes.

    Attributes:
        by_depth: (V,) numbers at depth 0, 1 ... L; each refines the one before.
        tables: the trees of those numbers.
    """

    by_depth: tuple[Ints, ...]
    tables: TreeTables

    @property
    def ids(self) -> Ints:
        """(V,) at the greatest depth."""
        return self.by_depth[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree as a graph: node 0 is its root, and the others come level by level.

    Attributes:
        node_labels: (nodes, F).
        edge_labels: (nodes - 1, H) of the edge from each node but the root to its parent.
        parents: (nodes - 1,) of each node but the root.
        degrees: (nodes,) or None.
    """

    node_labels: Ints
    edge_labels: Ints
    parents: Ints
    degrees: Ints | None


def tree_ids(graphs: GraphSet, layers: int, *, degrees: bool = False) -> TreeIds:
    """The computation tree of depth `layers` of each node.

    Args:
        graphs: without node labels all nodes have the same one; continuous features are not read.
        layers: 0 or more.
        degrees: whether nodes of different degree are told apart at depth 0, and so at every place of a tree. The
            symmetric normalisation of a GCN reads the degree of a tree's leaves, which the tree does not show: with it,
            equal trees have equal embeddings in a GCN too. The degree is the number of edges that a node is the target
            of, a self-loop being one.

    Raises:
        ValueError: layers is below 0, or a label.
    """
    if layers < 0:
        raise ValueError(f"layers: a tree has 0 or more (got {layers})")
    for name, labels in (("node_labels", graphs.node_labels), ("edge_labels", graphs.edge_labels)):
        if labels.size and labels.min() < 0:
            raise ValueError(f"{name}: labels are 0 or more (got {labels.min()}); number them from 0")
    in_degrees = np.bincount(graphs.edges[1], minlength=graphs.n_nodes)
    rows = np.column_stack([graphs.node_labels, in_degrees]) if degrees else graphs.node_labels
    ids, first = rank_rows(rows)
    kinds, first_kind = rank_rows(graphs.edge_labels)
    offsets = np.concatenate([[0], np.cumsum(in_degrees)])
    by_depth: list[Ints] = [ids]
    levels: list[Level] = []
    for _ in range(layers):
        n_below = int(by_depth[-1].max(initial=0)) + 1
        codes = kinds * n_below + by_depth[-1][graphs.edges[0]]
        codes = sort_within(graphs.edges[1], codes, offsets, len(first_kind) * n_below)
        ids, level = _intern(by_depth[0], offsets, codes, n_below)
        by_depth.append(ids)
        levels.append(level)
    tables = TreeTables(
        node_labels=graphs.node_labels[first],
        degrees=in_degrees[first] if degrees else None,
        edge_labels=graphs.edge_labels[first_kind],
        levels=tuple(levels),
    )
    return TreeIds(by_depth=tuple(by_depth), tables=tables)


def merge(tables: Sequence[TreeTables]) -> tuple[TreeTables, list[Ints]]:
    """One table of the trees of all, and for each table what its trees of the greatest depth are in it.

    Args:
        tables: one or more, of equal depth, columns and `degrees`.
    """
    rows = [
        one.node_labels if one.degrees is None else np.column_stack([one.node_labels, one.degrees]) for one in tables
    ]
    roots, first = rank_rows(np.concatenate(rows))
    node_labels = np.concatenate([one.node_labels for one in tables])[first]
    held = [one.degrees for one in tables if one.degrees is not None]
    degrees = np.concatenate(held)[first] if held else None
    kinds, first = rank_rows(np.concatenate([one.edge_labels for one in tables]))
    edge_labels = np.concatenate([one.edge_labels for one in tables])[first]
    roots_of = maps = _split(roots, [len(one.node_labels) for one in tables])
    kinds_of = _split(kinds, [len(one.edge_labels) for one in tables])
    levels: list[Level] = []
    for depth in range(len(tables[0].levels)):
        parts = [one.levels[depth] for one in tables]
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        roots = np.concatenate([root[part.roots] for root, part in zip(roots_of, parts, strict=True)])
        edges = np.concatenate([kind[part.edges] for kind, part in zip(kinds_of, parts, strict=True)])
        children = np.concatenate([child[part.children] for child, part in zip(maps, parts, strict=True)])
        n_below = int(children.max(initial=0)) + 1
        # the maps keep the order of numbers, so children stay sorted
        ids, level = _intern(roots, np.concatenate([[0], np.cumsum(sizes)]), edges * n_below + children, n_below)
        levels.append(level)
        maps = _split(ids, [len(part.roots) for part in parts])
    merged = TreeTables(node_labels=node_labels, degrees=degrees, edge_labels=edge_labels, levels=tuple(levels))
    return merged, maps


def build(tables: TreeTables, id: int) -> Tree:
    """The tree of that number, of the greatest depth."""
    frontier, places = np.array([id]), np.array([0])
    roots: list[Ints] = []
    parents: list[Ints] = [np.zeros(0, np.int64)]
    edges: list[Ints] = [np.zeros(0, np.int64)]
    n_nodes = 1
    for level in reversed(tables.levels):
        roots.append(level.roots[frontier])
        sizes = np.diff(level.offsets)[frontier]
        starts = np.repeat(level.offsets[frontier] - np.cumsum(sizes) + sizes, sizes)
        children = starts + np.arange(sizes.sum())
        parents.append(np.repeat(places, sizes))
        edges.append(level.edges[children])
        frontier = level.children[children]
        places = n_nodes + np.arange(len(frontier))
        n_nodes += len(frontier)
    labels = np.concatenate([*roots, frontier])
    return Tree(
        node_labels=tables.node_labels[labels],
        edge_labels=tables.edge_labels[np.concatenate(edges)],
        parents=np.concatenate(parents),
        degrees=None if tables.degrees is None else tables.degrees[labels],
    )


def _intern(roots: Ints, offsets: Ints, codes: Ints, n_below: int) -> tuple[Ints, Level]:
    """A number for each row of a root and its sorted codes, edge * n_below + child; and the rows that differ."""
    sizes = np.diff(offsets)
    ids = np.zeros(len(roots), dtype=np.int64)
    chosen: list[Ints] = [np.zeros(0, np.int64)]
    n_trees = 0
    order = np.argsort(sizes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1):
        if not len(rows):  # a set without nodes
            continue
        held = codes[offsets[rows, None] + np.arange(int(sizes[rows[0]]))]
        ranks, first = rank_rows(np.column_stack([roots[rows], held]))
        ids[rows] = n_trees + ranks
        chosen.append(rows[first])
        n_trees += len(first)
    kept = np.concatenate(chosen)
    new_offsets = np.concatenate([[0], np.cumsum(sizes[kept])])
    codes = codes[np.repeat(offsets[kept] - new_offsets[:-1], sizes[kept]) + np.arange(int(new_offsets[-1]))]
    return ids, Level(roots=roots[kept], offsets=new_offsets, edges=codes // n_below, children=codes % n_below)


def _split(values: Ints, sizes: Sequence[int]) -> list[Ints]:
    return np.split(values, np.cumsum(sizes)[:-1])
