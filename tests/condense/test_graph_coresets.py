"""Oracles: bytes counted anew, the class sizes by hand, every larger choice tried."""

import numpy as np
import pytest

from condense.condensed_graphs import as_condensed, count_bytes
from condense.coresets import Candidates
from condense.coresets._classes import class_sizes
from condense.graph_coresets import AHEAD, choose_within
from condense.graph_embedding import embed_graphs
from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import load_method
from tests.tiny_graphs import graph_set, random_graphs

GRAPHS = random_graphs(40, 7)
FEATURES = embed_graphs(GRAPHS, 2)


@pytest.mark.parametrize(
    ("n", "counts", "sizes"),
    [(5, [9, 9], [3, 2]), (6, [1, 9, 9], [1, 3, 2]), (99, [2, 3], [2, 3]), (2, [0, 4], [0, 2]), (0, [3], [0])],
)
def test_class_sizes_by_hand(n: int, counts: list[int], sizes: list[int]):
    assert class_sizes(n, counts) == sizes


@pytest.mark.parametrize("method", ["at_random", "herding", "k_means"])
@pytest.mark.parametrize("budget", [150, 400, 700])
def test_as_many_as_the_bytes_pay_for(method: str, budget: int):
    chosen = choose_within(method, GRAPHS, FEATURES, budget, 0)
    assert len(set(chosen.tolist())) == len(chosen) and count_bytes(GRAPHS.take(chosen))["total"] <= budget
    counts = np.bincount(GRAPHS.labels[chosen], minlength=2)
    assert counts[0] - counts[1] in (0, 1)
    np.testing.assert_array_equal(chosen, choose_within(method, GRAPHS, FEATURES, budget, 0))


@pytest.mark.parametrize("budget", range(60, 600, 45))
def test_herding_s_next_graph_is_too_much(budget: int):
    """A longer choice of herding holds the shorter ones, so its bytes only grow: the largest that fits is chosen."""
    whole = choose_within("herding", GRAPHS, FEATURES, 10**6, 0)
    by_class = [whole[GRAPHS.labels[whole] == label] for label in (0, 1)]

    def size(n: int) -> int:
        taken = np.concatenate([rows[:k] for rows, k in zip(by_class, class_sizes(n, [20, 20]), strict=True)])
        return count_bytes(GRAPHS.take(taken))["total"]

    fitting = [n for n in range(2, 41) if size(n) <= budget]
    if not fitting:
        with pytest.raises(ParamsError, match=rf"a graph of each class takes {size(2)} bytes as herding chooses"):
            choose_within("herding", GRAPHS, FEATURES, budget, 0)
    else:
        assert len(choose_within("herding", GRAPHS, FEATURES, budget, 0)) == max(fitting)


@pytest.mark.parametrize("method", ["at_random", "k_means"])
@pytest.mark.parametrize("budget", [250, 350, 500])
def test_none_of_the_next_longer_choices_fits(method: str, budget: int):
    """Every one of them made anew."""
    module = load_method("condense.coresets", method)
    candidates = Candidates(features=FEATURES, labels=GRAPHS.labels.astype(np.int64))
    n = len(choose_within(method, GRAPHS, FEATURES, budget, 1))
    for longer in range(n, n + AHEAD + 1):
        chosen = getattr(module, method)(module.Config(), candidates, class_sizes(longer, [20, 20]), seed=1)
        assert (count_bytes(GRAPHS.take(chosen))["total"] <= budget) == (longer == n)


def test_all_graphs_where_the_bytes_pay_for_them():
    chosen = choose_within("at_random", GRAPHS, FEATURES, count_bytes(GRAPHS)["total"], 0)
    assert sorted(chosen.tolist()) == list(range(40))


def test_a_codebook_is_paid_for():
    codebook = np.zeros((10, 2), np.float32)
    chosen = choose_within("herding", GRAPHS, FEATURES, 400, 0, codebook=codebook)
    assert count_bytes(as_condensed(GRAPHS.take(chosen), codebook))["total"] <= 400
    assert len(chosen) < len(choose_within("herding", GRAPHS, FEATURES, 400, 0))


def test_a_class_without_graphs_gets_none():
    graphs = graph_set([(2, [(0, 1)])] * 4, labels=[0, 2, 2, 0])
    chosen = choose_within("at_random", graphs, embed_graphs(graphs), 10**6, 0)
    assert np.bincount(graphs.labels[chosen]).tolist() == [2, 0, 2]
