"""Mirage: the sets of computation trees that many graphs of a class have, each set as one small graph with a frequency.

A network of L layers reads a graph as the multiset of its nodes' computation trees of depth L, and a few trees are in
most graphs of a class. So of each class the frequent sets of trees are mined, and each becomes a graph: the disjoint
union of its trees, edges from child to parent, read out at the roots alone. Nothing is trained, and the set serves
every network of L layers or fewer.

Gupta, Manchanda, Bedathur, Ranu. Mirage: Model-Agnostic Graph Distillation for Graph Classification. 2023.
arXiv:2310.09486, algorithm 1; the thresholds are numbers of graphs, as in the authors' code.

Paper and ours, by parameter: the paper has `itemsets=all`, `weighting=sample` and the defaults of all others. Its code
loses itemsets in its miner and this does not. `weighting=weight` gives each graph its frequency as the weight of its
loss, where a draw loses some patterns and repeats others. `degrees` makes a tree exact for a GCN as well, whose
normalisation reads more of a leaf than the tree shows. `byte_budget` finds the thresholds.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from condense.graphs import Task
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:  # a stage reads a Config without numpy
    from condense.condensed_graphs import CondensedGraphs
    from condense.graphs.itemsets import Holdings, Itemset
    from condense.graphs.sharding import Census
    from datagen.contracts.graphs import Ints

log = logging.getLogger(__name__)


class Config(Params):
    """What is mined, and how much of it is kept.

    Attributes:
        layers: depth of the trees, the number of layers of the networks that are to be trained.
        thresholds: for each class, in the order of the labels, how many of its graphs must have a set of trees.
        byte_budget: instead of thresholds, bytes that the condensed set may take (condense/condensed_graphs.py); which
            thresholds are tried is said at `byte_budget.thresholds_within`, before shared itemsets are dropped.
        itemsets: every frequent set of trees; or those to which no tree can be added without losing a graph; or those
            to which none can be added at all, not with a budget.
        max_itemsets: of a class, of maximal ones the closed ones among which they are found; more is an error, with a
            budget only where they could still fit it.
        multiplicity: up to how many nodes of a graph with equal trees are told apart; 1 asks whether there is any.
        degrees: whether trees differ when the degrees of their nodes do, and the set holds the degrees.
        weighting: a graph's weight is its support; or how often it comes up in as many draws with replacement as there
            are patterns of all classes, in proportion to support; or 1, as the public code for OGB's sets has it.
        shared: whether sets of trees that are frequent in several classes are kept, in each with its support there.
        single_nodes: whether trees of one node, of isolated nodes, are left out of the graphs; a graph of nothing else
            is left out whole. They are mined as any other tree, so of two sets that differ in them alone come two equal
            graphs, each with its own support.
    """

    method: Literal["mirage"] = "mirage"
    layers: int = Field(default=3, ge=0)
    thresholds: list[int] | None = None
    byte_budget: int | None = Field(default=None, ge=1)
    itemsets: Literal["all", "closed", "maximal"] = "all"
    max_itemsets: int = Field(default=100_000, ge=1)
    multiplicity: int = Field(default=1, ge=1)
    degrees: bool = False
    weighting: Literal["weight", "sample", "equal"] = "weight"
    shared: Literal["keep", "drop"] = "keep"
    single_nodes: Literal["skip", "keep"] = "skip"

    @model_validator(mode="after")
    def _one_of_two(self) -> "Config":
        if (self.thresholds is None) == (self.byte_budget is None):
            given = "neither" if self.thresholds is None else "both"
            raise ValueError(f"thresholds and byte_budget: give one of the two, not {given}")
        if self.thresholds is not None and min(self.thresholds, default=1) < 1:
            raise ValueError(f"thresholds: each is 1 or more graphs (got {self.thresholds})")
        if self.byte_budget is not None and self.itemsets == "maximal":
            raise ValueError(
                "byte_budget: maximal itemsets may take fewer bytes at a lower threshold, so no threshold is the last; "
                "take itemsets=closed, or give thresholds"
            )
        return self


def mirage(config: Config, task: Task) -> "CondensedGraphs":
    """See `condense.graphs.GraphsMethod`; graphs come class by class, by falling support. Only `sample` draws.

    A graph without nodes holds no tree, and counts among the graphs of its class all the same.

    Where a cluster is named its workers count the trees, and mine the itemsets of thresholds that are given. With a
    byte budget, whose search mines at many thresholds of which most end at once, this process mines.
    """
    from condense.graphs.sharding import n_label_columns, take_census

    if not n_label_columns(task.graphs):
        raise DataError(
            "graphs: nodes have no discrete labels, which trees are told apart by; give continuous features labels "
            "with quantise=K, or label nodes by their degree with `datastill graphs --set node_labels=degree`"
        )
    census = take_census(task.graphs, config.layers, degrees=config.degrees)
    patterns = mine_patterns(config, census)
    for name, found in zip(census.classes, patterns, strict=True):
        log.info("class %s: %d patterns of support %d or more", name, len(found), found[-1].support)
    return assemble(census, patterns, _weights(config, patterns, task.seed), skip_single=config.single_nodes == "skip")


def mine_patterns(config: Config, census: "Census") -> "list[list[Itemset]]":
    """The frequent sets of trees of each class that become graphs, by falling support.

    Raises:
        DataError: a class has no graph.
        ParamsError: nothing of a class reaches its threshold, too much does, or nothing fits the budget.
    """
    from condense.graphs.itemsets import MINERS
    from condense.graphs.sharding import mine

    held = [_of_class(census, label) for label in range(len(census.classes))]
    if config.thresholds is None:
        thresholds = _within_budget(config, census, held)
        patterns = [
            MINERS[config.itemsets](_holdings(config, *one, threshold), cap=config.max_itemsets)
            for one, threshold in zip(held, thresholds, strict=True)
        ]
    else:
        if len(config.thresholds) != len(census.classes):
            raise ParamsError(
                f"thresholds: {len(config.thresholds)} numbers (got {config.thresholds}) for {len(census.classes)} "
                f"classes ({', '.join(census.classes)}); give one a class"
            )
        for name, one, threshold in zip(census.classes, held, config.thresholds, strict=True):
            if (top := _largest_support(one)) < threshold:
                raise ParamsError(
                    f"thresholds: no tree is in {threshold} graphs of class {name!r}; the largest support is {top}, of "
                    f"{int((census.labels == census.classes.index(name)).sum())} graphs"
                )
        patterns = [
            mine(config.itemsets, _holdings(config, *one, threshold), config.max_itemsets)
            for one, threshold in zip(held, config.thresholds, strict=True)
        ]
    return _left(config, census, patterns)


def assemble(
    census: "Census", patterns: "Sequence[Sequence[Itemset]]", weights: Sequence[Sequence[float]], *, skip_single: bool
) -> "CondensedGraphs":
    """The patterns of each class as graphs, of which those of weight 0 are left out."""
    import numpy as np

    from condense.condensed_graphs import CondensedGraphs
    from condense.graphs.computation_trees import build
    from datagen.contracts.graphs import GraphSet

    tables, classes = census.tables, census.classes
    n_nodes = tables.n_nodes()
    chosen = [
        (label, f"{classes[label]}-{i}", weight, [t for t in one.items if not skip_single or n_nodes[t] > 1])
        for label, (found, given) in enumerate(zip(patterns, weights, strict=True))
        for i, (one, weight) in enumerate(zip(found, given, strict=True))
        if weight
    ]
    trees = {id: build(tables, id) for id in sorted({id for *_, ids in chosen for id in ids})}
    union = [trees[id] for *_, ids in chosen for id in ids]
    sizes = np.array([len(tree.node_labels) for tree in union], dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    owners = np.repeat(np.arange(len(chosen)), [len(ids) for *_, ids in chosen])
    per_graph = np.bincount(owners, weights=sizes, minlength=len(chosen)).astype(np.int64)
    n_trees = np.bincount(owners, minlength=len(chosen))
    is_root = np.zeros(sizes.sum(), dtype=np.bool_)
    is_root[first] = True
    empty = np.zeros((2, 0), dtype=np.int64)
    edges = [
        np.stack([start + 1 + np.arange(len(tree.parents)), start + tree.parents])
        for start, tree in zip(first.tolist(), union, strict=True)
    ]
    graphs = GraphSet(
        node_offsets=np.concatenate([[0], np.cumsum(per_graph)]),
        edge_offsets=np.concatenate([[0], np.cumsum(per_graph - n_trees)]),
        edges=np.concatenate([empty, *edges], axis=1),
        node_labels=np.concatenate([tables.node_labels[:0], *(tree.node_labels for tree in union)]).astype(np.int64),
        edge_labels=np.concatenate([tables.edge_labels[:0], *(tree.edge_labels for tree in union)]).astype(np.int64),
        node_features=np.zeros((len(is_root), 0), dtype=np.float32),
        labels=np.array([label for label, *_ in chosen], dtype=np.int64),
        ids=[id for _, id, *_ in chosen],
        classes=list(classes),
    )
    degrees = [tree.degrees for tree in union if tree.degrees is not None]
    return CondensedGraphs(
        graphs=graphs,
        is_root=is_root,
        weights=np.array([weight for _, _, weight, _ in chosen], dtype=np.float32),
        degrees=None if tables.degrees is None else np.concatenate([tables.degrees[:0], *degrees]),
    )


Held = tuple["Ints", "Ints", "Ints"]


def _of_class(census: "Census", label: int) -> "Held":
    """Which graph of the class, numbered from 0, has which tree, and how often."""
    import numpy as np

    is_of = census.labels == label
    if not is_of.any() or len(census.classes) < 2:
        held = np.bincount(census.labels, minlength=len(census.classes)).tolist()
        said = ", ".join(f"{name} has {n}" for name, n in zip(census.classes, held, strict=True))
        raise DataError(f"graphs: each of two classes or more needs a graph; {said}; give graphs of every class")
    owners = np.repeat(np.arange(len(is_of)), np.diff(census.offsets))
    kept = is_of[owners]
    return (np.cumsum(is_of) - 1)[owners[kept]], census.trees[kept], census.counts[kept]


def _holdings(
    config: Config, graphs: "Ints", trees: "Ints", counts: "Ints", threshold: int, cap: int | None = None
) -> "Holdings":
    import numpy as np

    from condense.graphs.itemsets import holdings

    kept = np.bincount(trees)[trees] >= threshold  # most trees are rare
    return holdings(
        graphs[kept], trees[kept], counts[kept],
        threshold=threshold, multiplicity=config.multiplicity, cap=cap or config.max_itemsets,
    )  # fmt: skip


def _largest_support(held: "Held") -> int:
    import numpy as np

    return int(np.bincount(held[1]).max(initial=0))


def _within_budget(config: Config, census: "Census", held: "Sequence[Held]") -> list[int]:
    from condense.condensed_graphs import count_bytes
    from condense.graphs.byte_budget import thresholds_within
    from condense.graphs.itemsets import MINERS, TooMany

    assert config.byte_budget is not None
    budget = config.byte_budget
    n_nodes, skip = census.tables.n_nodes(), config.single_nodes == "skip"
    cap = min(config.max_itemsets, budget)

    def miner(name: str, one: "Held", threshold: int) -> "list[Itemset]":
        try:
            return MINERS[config.itemsets](_holdings(config, *one, threshold, cap), cap=cap)
        except TooMany:
            if cap == budget:  # an itemset takes a byte or more
                raise
            raise ParamsError(
                f"max_itemsets: more than {cap} itemsets of class {name!r} reach the support {threshold}, and may fit "
                f"a byte_budget of {budget}; raise max_itemsets up to that, or set itemsets=closed"
            ) from None

    def size_of(patterns: "Sequence[Sequence[Itemset]]") -> int:
        supports = [[one.support for one in found] for found in patterns]
        return count_bytes(assemble(census, patterns, supports, skip_single=skip))["total"]

    return thresholds_within(
        [partial(miner, name, one) for name, one in zip(census.classes, held, strict=True)],
        [_largest_support(one) for one in held],
        census.classes,
        lambda one: int(n_nodes[list(one.items)].sum()),
        size_of,
        budget,
    )


def _left(config: Config, census: "Census", patterns: "Sequence[Sequence[Itemset]]") -> "list[list[Itemset]]":
    """Those that make a graph, and without shared ones, if they are not wanted.

    Raises:
        ParamsError: a class has none left.
    """
    n_nodes = census.tables.n_nodes()
    classes_of = Counter(one.items for found in patterns for one in found)
    left = [
        [
            one
            for one in found
            if (config.shared == "keep" or classes_of[one.items] == 1)
            and (config.single_nodes == "keep" or (n_nodes[list(one.items)] > 1).any())
        ]
        for found in patterns
    ]
    for name, before, found in zip(census.classes, patterns, left, strict=True):
        if not found:
            raise ParamsError(
                f"class {name!r}: of {len(before)} patterns none is left without those of other classes and of "
                "isolated nodes; lower its threshold or raise byte_budget, or set shared=keep or single_nodes=keep"
            )
    return left


def _weights(config: Config, patterns: "Sequence[Sequence[Itemset]]", seed: int) -> list[list[float]]:
    """Of each pattern; see `Config.weighting`."""
    import numpy as np

    supports = [[float(one.support) for one in found] for found in patterns]
    if config.weighting == "weight":
        return supports
    if config.weighting == "equal":
        return [[1.0] * len(found) for found in patterns]
    flat = np.concatenate(supports)
    draw = np.random.default_rng(derive_seed(seed, "mirage"))
    times = np.bincount(draw.choice(len(flat), len(flat), p=flat / flat.sum()), minlength=len(flat))
    drawn = np.split(times, np.cumsum([len(found) for found in supports])[:-1])
    if missing := [label for label, one in enumerate(drawn) if not one.any()]:
        raise ParamsError(
            f"weighting: sample drew no pattern of class {missing[0]}, of {len(supports[missing[0]])}; take another "
            "seed, lower its threshold, or set weighting=weight"
        )
    return [one.astype(float).tolist() for one in drawn]
