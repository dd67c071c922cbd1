"""Oracles: torch's own weighted loss, shares of many draws, scikit-learn's area and ranks by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pytest import approx

from condense.condensed_graphs import as_condensed
from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from tests.labelled_graphs import labelled_graphs
from trainers.graph_batches import GraphTensors, columns_of, tensors_of
from trainers.graph_nets import GraphBatch
from trainers.graph_steps import Network, Steps, fresh_net, loss_of, measures_of, rows_of
from trainers.steps import Position, loop_config


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def weighted(weights: list[float]) -> GraphTensors:
    condensed = as_condensed(labelled_graphs(len(weights)))
    return tensors_of(replace(condensed, weights=np.array(weights, dtype=np.float32)))


class Scores(torch.nn.Module):
    """Logits that are given, graph by graph; as many nodes as a graph has say which."""

    def __init__(self, graphs: GraphTensors, logits: list[list[float]]) -> None:
        super().__init__()
        self.rows = [str(graphs.batch(torch.tensor([i])).node_labels.tolist()) for i in range(len(graphs))]
        self.logits = torch.tensor(logits)

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        labels = [batch.node_labels[batch.graph_of_node == i].tolist() for i in range(batch.n_graphs)]
        return self.logits[[self.rows.index(str(one)) for one in labels]]


@pytest.mark.parametrize(("weighting", "expected"), [("weight", [4.0, 1.0, 1.0, 2.0]), ("none", [1.0] * 4)])
def test_a_graph_weighs_what_its_weight_says(weighting: Any, expected: list[float]):
    """Torch's loss, graph by graph; over all, the mean weight is 1, and a batch's count is that of its graphs."""
    graphs = weighted([400, 100, 100, 200])
    logits = [[0.5, -1.0], [2.0, 0.1], [-0.3, 0.3], [0.0, 1.0]]
    each = torch.nn.functional.cross_entropy(torch.tensor(logits), graphs.labels, reduction="none")
    scale = torch.tensor(expected) / (sum(expected) / len(expected))
    loss = loss_of(graphs, weighting)
    for at in ([0, 1, 2, 3], [2], [3, 0]):
        found = loss(Scores(graphs, logits), [Position(i) for i in at], torch.device("cpu"))
        assert float(found.sum) == approx(float((each * scale)[at].sum()), rel=1e-6) and int(found.n) == len(at)


def test_sampling_draws_by_weight_for_each_student_once():
    """As many as there are, with replacement: shares of many draws, within four standard errors."""
    graphs = weighted([7, 1, 1, 1])
    drawn = [[row.at for row in rows_of(graphs, "sample", seed)] for seed in range(500)]
    assert all(len(one) == 4 for one in drawn) and drawn[0] == [row.at for row in rows_of(graphs, "sample", 0)]
    share = np.mean(np.array(drawn) == 0)
    assert abs(share - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 2000)
    assert [row.at for row in rows_of(graphs, "weight", 0)] == [0, 1, 2, 3]
    assert [row.at for row in rows_of(weighted([3, 3, 3]), "sample", 0)] == [0, 1, 2], "real graphs, each once"


def test_area_and_accuracy_by_hand():
    """Classes by turns; by the difference of the logits 3 of the 4 pairs are in order, and 2 graphs are right."""
    graphs = weighted([1, 1, 1, 1])
    logits = [[1.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.0, 2.0]]  # no -1, yes .5, no 1, yes 2
    found = measures_of(Scores(graphs, logits), graphs)
    assert found == {"accuracy": 0.75, "auc": 0.75}
    of_one_class = measures_of(Scores(graphs, logits), replace(graphs, labels=torch.zeros(4, dtype=torch.int64)))
    assert of_one_class is not None and of_one_class.keys() == {"accuracy"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_student_that_diverged_has_no_measures(value: float):
    graphs = weighted([1, 1])
    assert measures_of(Scores(graphs, [[0.0, 1.0], [value, 0.0]]), graphs) is None


def test_large_logits_make_no_ties():
    """Probabilities in float32 would be 1 for both."""
    graphs = weighted([1, 1])
    found = measures_of(Scores(graphs, [[0.0, 100.0], [0.0, 101.0]]), graphs)
    assert found is not None and found["auc"] == 1.0


def test_the_defaults_are_the_published_settings():
    """The condensation notes of ogbg-molbace: hidden 128, 3 layers, dropout .6, batch 32, Adam with decay 1e-2."""
    parts = validate({}, Network, Steps)
    network, steps = parts[Network], parts[Steps]
    assert (network.hidden, network.layers, network.dropout, network.pool) == (128, 3, 0.6, "sum")
    config = loop_config(steps, 1210, 1e-3, 0, n_steps=3800)
    assert (config.optimizer, config.weight_decay, config.schedule, config.steps) == (
        "adam",
        0.01,
        "constant",
        3800,
    )
    assert config.batch_size == 32 and config.epochs == 100
    with pytest.raises(ParamsError, match=r"dropout: .*less than 1"):
        validate({"dropout": 1.0}, Network)


def test_equal_seeds_have_equal_weights():
    columns, network = columns_of(labelled_graphs(4)), Network(hidden=8, layers=2, dropout=0.0)
    first, again, other = (fresh_net("gin", columns, 2, network, seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight) and not torch.equal(first.head.weight, other.head.weight)
