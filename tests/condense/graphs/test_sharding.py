"""Oracle: trees counted one graph after another; all graphs at once, for those in parts and on a cluster."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from condense.condensed_graphs import arrays_of
from condense.graphs import Task
from condense.graphs.computation_trees import tree_ids
from condense.graphs.itemsets import Holdings, closed, frequent, holdings, maximal
from condense.graphs.mirage import Config, mirage
from condense.graphs.sharding import MANY_ITEMS, Census, Shards, _count, _merged, _slices, mine, take_census
from datagen.contracts.cluster import ADDRESS
from datagen.contracts.dataset import BLOCK, DatasetWriter
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.graphs import GraphRow, GraphSet, graph_rows
from tests.condense.graphs.small_graphs import random_graphs
from tests.dask_processes import a_cluster

N = 2 * BLOCK + 100  # three Parquet files


@pytest.fixture(scope="module")
def graphs() -> GraphSet:
    """Without the graph that has no node, which a dataset cannot hold."""
    return random_graphs(0, N + 1).take(np.arange(1, N + 1))


@pytest.fixture(scope="module")
def shards(graphs: GraphSet, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    path = tmp_path_factory.mktemp("graphs") / "set"
    stated = {"stage": "graphs", "classes": graphs.classes, "columns": graphs.columns}
    with DatasetWriter(path, GraphRow, stated) as writer:
        for row in graph_rows(graphs):
            writer.read()
            writer.write(row)
    assert len([*path.glob("part-*.parquet")]) == 3
    return Shards(path=path)


def equal(one: Census, other: Census) -> bool:
    arrays = [(getattr(one, name), getattr(other, name)) for name in ("labels", "offsets", "trees", "counts")]
    for here, there in zip(one.tables.levels, other.tables.levels, strict=True):
        arrays += [(getattr(here, field.name), getattr(there, field.name)) for field in fields(here)]
    arrays += [(one.tables.node_labels, other.tables.node_labels), (one.tables.edge_labels, other.tables.edge_labels)]
    return all(np.array_equal(here, there) for here, there in arrays)


def test_trees_of_each_graph():
    """Counted one graph after another; what the trees are is `test_computation_trees`'s."""
    few = random_graphs(3, 20)
    census, ids, owner = take_census(few, 2), tree_ids(few, 2).ids, few.graph_of_node
    for g in range(20):
        held = slice(census.offsets[g], census.offsets[g + 1])
        trees = census.trees[held].tolist()
        assert trees == sorted(trees)
        assert Counter(dict(zip(trees, census.counts[held].tolist(), strict=True))) == Counter(ids[owner == g].tolist())


def test_files_one_after_another_are_the_set_at_once(graphs: GraphSet, shards: Shards):
    for degrees in (False, True):
        assert equal(take_census(graphs, 2, degrees=degrees), take_census(shards, 2, degrees=degrees))


@pytest.mark.parametrize("sizes", [[1] * 60, [1, 40, 2, 2, 30, 1, 7], [30, 1, 1, 1], [50] * 2])
def test_parts_of_any_size_are_the_set_at_once(sizes: list[int]):
    """Trees come between those that were there, many times, or none do."""
    ends = np.cumsum([0, *sizes])
    few = random_graphs(4, int(ends[-1]))
    parts = [_count(2, False, few.take(np.arange(*pair))) for pair in pairwise(ends)]
    assert equal(_merged(parts, few.classes), take_census(few, 2))
    twice = _merged([*parts, *parts], few.classes)
    assert np.array_equal(twice.trees, np.tile(take_census(few, 2).trees, 2))


def test_a_cluster_finds_the_same(
    graphs: GraphSet, shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]
):
    """Graphs that are sent and files that workers read; the condensed sets have the same bytes, mined there or here."""
    needs(module="distributed", remedy="pip install 'datastill[scale]'")
    config = Config(layers=2, thresholds=[40, 40], itemsets="closed", degrees=True)
    monkeypatch.delenv(ADDRESS, raising=False)
    whole, made = take_census(graphs, 2, degrees=True), mirage(config, Task(graphs=graphs))
    with a_cluster(tmp_path, 2) as cluster:
        monkeypatch.setenv(ADDRESS, cluster.address)
        assert equal(take_census(graphs, 2, degrees=True), whole)
        there = mirage(config, Task(graphs=shards))
        held = many_items()
        assert mine("closed", held, 10_000) == closed(held)
    stored, expected = arrays_of(there), arrays_of(made)
    assert {name: one.tobytes() for name, one in stored.items()} == {n: one.tobytes() for n, one in expected.items()}
    assert there.graphs.ids == made.graphs.ids and there.graphs.edges.tolist() == made.graphs.edges.tolist()


def many_items(threshold: int = 10) -> Holdings:
    """250 items in 300 transactions: enough that they are mined in parts."""
    transactions, items = np.nonzero(np.random.default_rng(0).random((300, 250)) < 0.1)
    return holdings(transactions, items, np.ones(len(items), int), threshold=threshold)


def test_mining_in_parts_finds_the_same():
    held = many_items()
    assert len(held.items) == 250 >= MANY_ITEMS
    for kind, miner in (("all", frequent), ("closed", closed), ("maximal", maximal)):
        assert mine(kind, held, 10_000) == miner(held)
    with pytest.raises(ParamsError, match="more than 250 itemsets"):
        mine("all", many_items(threshold=5), 250)


def test_the_cap_on_maximal_itemsets_is_on_the_closed_ones():
    """By the sum of the parts, as where one process mines fewer items."""
    held = many_items()
    n_closed, last = len(closed(held)), maximal(held)
    assert len(last) < n_closed
    assert mine("maximal", held, n_closed) == last
    for found in (lambda cap: mine("maximal", held, cap), lambda cap: maximal(held, cap=cap)):
        with pytest.raises(ParamsError, match=f"more than {n_closed - 1} itemsets"):
            found(n_closed - 1)


def test_a_negative_label_is_the_same_error_where_it_is_sent():
    """-1 in a byte is 255: whoever is sent the graphs must see what the sender has."""
    few = random_graphs(3, 20)
    few.node_labels[0] = -1
    with pytest.raises(ValueError) as here:
        take_census(few, 1)
    with pytest.raises(ValueError) as there:
        _merged([_count(1, False, one) for one in _slices(few, 7)], few.classes)
    assert str(there.value) == str(here.value)


def test_no_graph(tmp_path: Path):
    path = tmp_path / "empty"
    with DatasetWriter(path, GraphRow, {"classes": ["a"], "columns": {}}):
        pass
    with pytest.raises(DataError, match="graphs: there is none"):
        take_census(Shards(path=path), 1)
