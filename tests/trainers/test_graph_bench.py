"""Oracles: bytes as they are stored, every rate by itself, students that learn from the very same graphs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.condensed_graphs import CondensedGraphs, as_condensed, count_bytes
from condense.quantisation import quantised
from tests.labelled_graphs import computation_trees, labelled_graphs
from trainers import graph_bench
from trainers.comparison import compare
from trainers.graph_bench import Bench, choose, coreset_arm, open_bench, set_of, sizes_of, train_cell, whole_arm
from trainers.graph_protocol import Config, parse
from trainers.graph_steps import Network, Steps
from trainers.protocol import STANDARD, Arm, Cell


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def bench(condensed: dict[str, CondensedGraphs] | None = None, **more: Any) -> Bench:
    """16 training graphs, few steps."""
    few = {"n_steps": 6, "whole_steps": 6, "hidden": 8, "layers": 2, "n_threads": 1, "multiples": [], "seeds": 5}
    rates = {"nets": ["gin", "gcn"], "learning_rates": [0.01], "seeds_for_rate": 2}
    params = parse({**few, **rates, **more})
    train, validation, test = (labelled_graphs(16, seed=seed) for seed in range(3))
    return open_bench(
        params[Config], params[Network], params[Steps], train, validation, test, condensed or {}
    )  # fmt: skip


def cell(arm: Arm, net: str = "gin", transform: str = STANDARD) -> Cell:
    return Cell(arm=arm, regime="hard", net=net, transform=transform)


def condensed(name: str) -> Arm:
    return Arm(name=name, kind="condensed", size=100, bytes_of=(("hard", 100),))


@pytest.mark.parametrize("method", ["at_random", "herding", "k_means"])
def test_a_coreset_has_no_more_bytes_than_it_may(method: str):
    """Of each seed, as they would be stored; students learn from these graphs; drawn anew where any is drawn."""
    one = bench()
    budget = count_bytes(one.train.take(np.arange(5)))["total"]
    chosen, _ = choose(method, budget, one)
    arm = coreset_arm(method, budget, one)
    one = replace(one, coresets={arm.name: chosen})
    sizes = sizes_of(arm, one, one.coresets)
    for i, (at, (n_graphs, n_bytes)) in enumerate(zip(chosen, sizes, strict=True)):
        learned = set_of(one, cell(arm), i)
        assert list(learned.graphs.ids) == [one.train.ids[j] for j in at] and learned.is_root.all()
        assert (n_graphs, n_bytes) == (len(at), count_bytes(learned)["total"]) and n_bytes <= budget
    assert (len({tuple(at.tolist()) for at in chosen}) > 1) == (method != "herding")


def test_arms_of_the_same_graphs_have_the_same_students():
    """A condensed set that is everything, at as many steps as everything has; and a coreset of all graphs in order."""
    one = bench({"all": as_condensed(labelled_graphs(16))})
    one = replace(one, coresets={"at_random-9": [np.arange(16)] * 5})
    found = [train_cell(one, cell(arm)) for arm in (whole_arm(one), condensed("all"), coreset_arm("at_random", 9, one))]
    assert len({outcome.accuracy for outcome in found}) == len({outcome.auc for outcome in found}) == 1
    assert len(found[0].auc) == len(found[0].accuracy) == 5
    other = train_cell(replace(one, steps=one.steps.model_copy(update={"seed": 1})), cell(whole_arm(one)))
    assert other.auc != found[0].auc


def test_the_rate_is_chosen_on_validation_graphs_alone():
    """Oracle: every rate by itself; the test graphs' labels could be anything."""
    rates = [1e-5, 0.01, 0.1]
    alone = {rate: train_cell(bench(learning_rates=[rate]), cell(whole_arm(bench()))) for rate in rates}
    one = bench(learning_rates=rates)
    found = train_cell(one, cell(whole_arm(one)))
    assert found.learning_rate == max(rates, key=lambda rate: sum(alone[rate].validation[:2]))
    assert found.auc == alone[found.learning_rate].auc
    wrong = replace(one.test, labels=1 - one.test.labels)
    other = train_cell(replace(one, test=wrong, _seen={}), cell(whole_arm(one)))
    assert other.learning_rate == found.learning_rate
    assert other.auc == pytest.approx([1 - auc for auc in found.auc])


def test_everything_trains_for_steps_of_its_own():
    one, long = (bench({"all": as_condensed(labelled_graphs(16))}, n_steps=n, whole_steps=20) for n in (6, 20))
    everything = train_cell(one, cell(whole_arm(one)))
    assert everything.auc == train_cell(long, cell(condensed("all"))).auc != train_cell(one, cell(condensed("all"))).auc


def test_a_set_with_a_codebook_has_judges_that_go_through_it():
    """Oracle: graphs that were quantised before anybody saw them, in a bench without a codebook."""
    codebook = np.array([[0.0], [1.0]], dtype=np.float32)
    plain = bench()

    def with_features(part: str) -> Any:
        graphs = getattr(plain, part)
        features = (graphs.node_labels[:, :1] / 3).astype(np.float32)
        return replace(graphs, node_features=features)

    parts = {part: with_features(part) for part in ("train", "validation", "test")}
    coded = {part: quantised(one, codebook) for part, one in parts.items()}
    made = as_condensed(coded["train"].take(np.arange(6)))
    one = replace(plain, **parts, condensed={"made": replace(made, codebook=codebook)})
    other = replace(plain, **coded, condensed={"made": made})
    name = graph_bench.transform_of(one.condensed["made"], one)
    assert name.startswith("codebook-") and graph_bench.transform_of(made, other) == STANDARD
    found = train_cell(one, cell(condensed("made"), transform=name))
    assert found.auc == train_cell(other, cell(condensed("made"))).auc


def test_arms_meet_the_coresets_of_their_bytes(tmp_path: Path):
    """Two sets of trees; each has coresets of its own bytes."""
    made = {name: computation_trees(labelled_graphs(n), 1, degrees=True) for name, n in (("a", 2), ("b", 4))}
    counts = {name: count_bytes(one) for name, one in made.items()}
    one = bench(made, coresets=["at_random"], n_steps=2, whole_steps=2)
    found = compare(one, counts, tmp_path, lambda cell, left: None, kind=graph_bench, measure="auc")
    sizes = {name: count["total"] for name, count in counts.items()}
    assert found.rivals == {(name, "hard"): [f"at_random-{size}"] for name, size in sizes.items()}
    assert found.chosen.keys() == {f"at_random-{size}" for size in sizes.values()}
    assert {net for _, _, net in found.outcomes} == {"gin", "gcn"}
    assert found.by_seed("a", "hard", "gin") == found.outcomes["a", "hard", "gin"].auc
    again = compare(one, counts, tmp_path, lambda cell, left: None, kind=graph_bench, measure="auc")
    assert again.outcomes == found.outcomes, "what is kept is not trained again, its seconds are the same"


def test_larger_coresets_in_bytes_are_tried_where_a_set_is_better(tmp_path: Path):
    """All graphs, said to be as small as two: twice those bytes are tried. With the labels exchanged: nothing is."""
    train = labelled_graphs(16)
    made = {"all": as_condensed(train), "wrong": as_condensed(replace(train, labels=1 - train.labels))}
    counts = {"all": {"total": 150}, "wrong": {"total": 160}}
    one = bench(made, coresets=["at_random"], multiples=[2], n_steps=12, whole_steps=12)
    found = compare(one, counts, tmp_path, lambda cell, left: None, kind=graph_bench, measure="auc")
    mean = {name: np.mean(found.by_seed(name, "hard", "gin")) for name in ("all", "at_random-150", "at_random-160")}
    assert mean["all"] > mean["at_random-150"] + 0.05, "or this shows nothing"
    assert found.larger == {"all": ["at_random-300"], "wrong": []}
    sizes = sizes_of(coreset_arm("at_random", 300, one), one, found.chosen)
    assert all(150 < n_bytes <= 300 for _, n_bytes in sizes)
