"""Oracles: trees written out as texts; counts by hand; Weisfeiler and Leman's colours by networkx."""

from itertools import pairwise
from typing import Any

import networkx
import numpy as np
import pytest

from condense.graphs.computation_trees import Tree, build, merge, tree_ids
from datagen.contracts.graphs import GraphSet
from tests.condense.graphs.small_graphs import graph_set, partition, random_graphs, texts


def text_of(tree: Tree, node: int = 0) -> str:
    """As `texts` writes it, but for the degree."""
    children = (np.flatnonzero(tree.parents == node) + 1).tolist()
    written = sorted(str(tree.edge_labels[child - 1].tolist()) + text_of(tree, child) for child in children)
    degree = "" if tree.degrees is None else tree.degrees[node]
    return f"{tree.node_labels[node].tolist()}{degree}({''.join(written)})"


def permuted(graphs: GraphSet, seed: int) -> GraphSet:
    """Nodes renumbered inside each graph, edges in another order inside each graph."""
    draw = np.random.default_rng(seed)
    owner = graphs.graph_of_node
    order = np.lexsort([draw.random(graphs.n_nodes), owner])  # new place -> old node
    place = np.argsort(order)
    edge_owner = owner[graphs.edges[0]]
    edge_order = np.lexsort([draw.random(len(edge_owner)), edge_owner])
    return GraphSet(
        node_offsets=graphs.node_offsets,
        edge_offsets=graphs.edge_offsets,
        edges=place[graphs.edges[:, edge_order]],
        node_labels=graphs.node_labels[order],
        edge_labels=graphs.edge_labels[edge_order],
        node_features=graphs.node_features[order],
        labels=graphs.labels,
        ids=graphs.ids,
        classes=graphs.classes,
    )


@pytest.mark.parametrize("degrees", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equal_numbers_are_equal_texts(seed: int, degrees: bool):
    """Directed graphs with self-loops, double edges and isolated nodes, two columns of labels."""
    graphs = random_graphs(seed, 30)
    found = tree_ids(graphs, 3, degrees=degrees)
    for depth in range(4):
        assert partition(found.by_depth[depth].tolist()) == partition(texts(graphs, depth, degrees=degrees))


def test_a_tree_is_rebuilt_from_its_number():
    for degrees in (False, True):
        graphs = random_graphs(7, 30)
        found = tree_ids(graphs, 3, degrees=degrees)
        trees = [build(found.tables, id) for id in range(found.tables.n_trees(3))]
        assert [text_of(trees[id]) for id in found.ids] == texts(graphs, 3, degrees=degrees)
        assert found.tables.n_nodes().tolist() == [len(tree.node_labels) for tree in trees]


def test_a_star_a_cycle_and_a_path_by_hand():
    """Star: middle and leaf. Cycle: all alike. Path of five: depth 1 tells ends from others, depth 2 the middle."""
    star = graph_set(([0] * 5, [(0, i) for i in range(1, 5)], 0))
    cycle = graph_set(([0] * 6, [(i, (i + 1) % 6) for i in range(6)], 0))
    path = graph_set(([0] * 5, [(i, i + 1) for i in range(4)], 0))
    for graphs, expected in ((star, (1, 2, 2, 2)), (cycle, (1, 1, 1, 1)), (path, (1, 2, 3, 3))):
        found = tree_ids(graphs, 3)
        assert tuple(len(np.unique(ids)) for ids in found.by_depth) == expected
    # nodes of the star's trees of depth 2: the middle, 4 leaves and each one's middle; a leaf, the middle, 4 leaves
    assert sorted(tree_ids(star, 2).tables.n_nodes().tolist()) == [6, 9]
    assert tree_ids(cycle, 3).tables.n_nodes().tolist() == [1 + 2 + 4 + 8]


def test_what_unusual_edges_mean():
    """Two edges are two children, a self-loop a child that is the node itself; nothing comes against an edge's way."""
    directed = graph_set(([0, 1, 2], [(0, 1), (0, 1), (2, 2)], 0), undirected=False)
    found = tree_ids(directed, 2)
    alone, double, loop = (build(found.tables, id) for id in found.ids)
    assert (alone.node_labels.tolist(), alone.parents.tolist()) == ([[0]], [])
    assert (double.node_labels.tolist(), double.parents.tolist()) == ([[1], [0], [0]], [0, 0])
    assert (loop.node_labels.tolist(), loop.parents.tolist()) == ([[2], [2], [2]], [0, 1])


def test_degrees_tell_leaves_apart():
    """The ends of two paths, of two nodes and of three: the same tree of depth 1, but the neighbours' degrees."""
    paths = graph_set(([0, 0], [(0, 1)], 0), ([0, 0, 0], [(0, 1), (1, 2)], 1))
    plain, exact = tree_ids(paths, 1).ids, tree_ids(paths, 1, degrees=True)
    assert plain[0] == plain[2] and exact.ids[0] != exact.ids[2]
    tree = build(exact.tables, int(exact.ids[2]))
    assert tree.degrees is not None and tree.degrees.tolist() == [1, 2]


def test_colours_of_weisfeiler_and_leman():
    """Undirected graphs without repeated edges; networkx starts from labels and hashes what it finds."""
    graphs = [networkx.gnp_random_graph(12, 0.2, seed=seed) for seed in range(8)]
    held = graph_set(*(([0] * 12, [(u, v) for u, v in graph.edges], 0) for graph in graphs))
    found = tree_ids(held, 3)
    for graph in graphs:
        networkx.set_node_attributes(graph, dict.fromkeys(graph, "x"), "label")
    hashes: Any = [
        networkx.weisfeiler_lehman_subgraph_hashes(graph, node_attr="label", iterations=3) for graph in graphs
    ]
    for depth in range(1, 4):
        colours = [one[node][depth - 1] for one in hashes for node in range(12)]
        assert partition(found.by_depth[depth].tolist()) == partition(colours)


@pytest.mark.parametrize("seed", range(4))
def test_another_order_of_nodes_and_edges_changes_no_number(seed: int):
    graphs = random_graphs(seed, 20)
    plain, moved = tree_ids(graphs, 3), tree_ids(permuted(graphs, seed), 3)
    for g in range(len(graphs)):
        nodes = slice(graphs.node_offsets[g], graphs.node_offsets[g + 1])
        assert sorted(plain.ids[nodes].tolist()) == sorted(moved.ids[nodes].tolist())


def test_each_depth_refines_the_one_before():
    found = tree_ids(random_graphs(3, 40), 4)
    for coarse, fine in pairwise(found.by_depth):
        assert len({*zip(fine.tolist(), coarse.tolist(), strict=True)}) == len(np.unique(fine))


@pytest.mark.parametrize("degrees", [False, True])
def test_merged_tables_are_those_of_the_whole(degrees: bool):
    """Parts of 1, 0 ... graphs; numbers of the merged table are those of all graphs at once."""
    graphs = random_graphs(11, 40)
    whole = tree_ids(graphs, 3, degrees=degrees)
    cuts = [0, 1, 7, 7, 30, 40]
    parts = [graphs.take(np.arange(start, stop)) for start, stop in pairwise(cuts)]
    found = [tree_ids(part, 3, degrees=degrees) for part in parts]
    merged, maps = merge([one.tables for one in found])
    ids = np.concatenate([of[one.ids] for of, one in zip(maps, found, strict=True)])
    assert ids.tolist() == whole.ids.tolist()
    for mine, theirs in zip(merged.levels, whole.tables.levels, strict=True):
        for name in ("roots", "offsets", "edges", "children"):
            assert getattr(mine, name).tolist() == getattr(theirs, name).tolist()
    assert merged.node_labels.tolist() == whole.tables.node_labels.tolist()


def test_labels_too_large_to_pack():
    """Nine columns of labels near 2**40 do not fit a word, and are told apart all the same."""
    draw = np.random.default_rng(0)
    rows = 2**40 + draw.integers(0, 2, (200, 9))
    graphs = graph_set(([tuple(row) for row in rows.tolist()], [(i, i + 1) for i in range(199)], 0))
    found = tree_ids(graphs, 1)
    assert partition(found.by_depth[0].tolist()) == partition([tuple(row) for row in rows.tolist()])
    assert partition(found.ids.tolist()) == partition(texts(graphs, 1))


def test_nothing_and_no_labels():
    empty = graph_set(([], [], 0))
    assert tree_ids(empty, 2).ids.tolist() == []
    path = graph_set(([()] * 3, [(0, 1), (1, 2)], 0))
    assert path.node_labels.shape == (3, 0) and partition(tree_ids(path, 1).ids.tolist()) == [0, 1, 0]
    assert partition(tree_ids(path, 0).ids.tolist()) == [0, 0, 0]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"layers: a tree has 0 or more \(got -1\)"):
        tree_ids(graph_set(([0], [], 0)), -1)
    with pytest.raises(ValueError, match=r"node_labels: labels are 0 or more \(got -2\)"):
        tree_ids(graph_set(([-2], [], 0)), 1)
