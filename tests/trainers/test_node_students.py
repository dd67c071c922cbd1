"""Oracles: the epochs that a fake network's accuracies make best; a bare loop of torch; figures by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datagen.contracts.errors import DataError
from datagen.contracts.node_graphs import NodeGraph, check_node_graph
from tests.tiny_nodes import tiny_nodes
from trainers.methods.graph import Task
from trainers.methods.graph.labels_alone import Config as LabelsConfig
from trainers.methods.graph.labels_alone import labels_alone
from trainers.node_nets import open_student
from trainers.node_students import Config, accuracy, on_device, summarise, train_net, train_seed


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def tiny_graph() -> NodeGraph:
    return check_node_graph(Path("nodes.npz"), tiny_nodes())


def config_of(**settings: Any) -> Config:
    return Config.model_validate(settings)


class Counter(nn.Module):
    """A network that counts its steps: what it says of the validation nodes is the test's business."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        return self.steps.expand(len(features), 3)


@pytest.mark.parametrize(
    ("right", "patience", "best", "epochs"),
    [
        ([3, 9, 9, 2, 1, 1, 1], 3, 3, 6),  # of equally good ones the last; three epochs without a better one end it
        ([1, 2, 3, 4, 5, 6, 7], 3, 7, 7),
        ([5, 1, 1, 6, 1, 1, 1], 3, 4, 7),
        ([9, 1, 1, 1, 10, 1, 1], 3, 1, 4),
        ([0, 0, 0, 0, 0, 0, 0], 1, 7, 7),
    ],
)
def test_the_epoch_that_is_best_on_validation_is_kept(right: list[int], patience: int, best: int, epochs: int):
    """`right` of 18 nodes in each epoch, by hand; the weights are those after as many steps of -1 each."""
    nodes = on_device(tiny_graph(), "as_given")
    labels = nodes.labels[nodes.parts["validation"]]
    seen: list[float] = []

    def validation_logits(net: nn.Module) -> Tensor:
        seen.append(0)
        said = torch.where(torch.arange(18) < right[len(seen) - 1], labels, (labels + 1) % 3)
        return functional.one_hot(said, 3).float()

    config = config_of(epochs=7, patience=patience, weight_decay=0)
    trained, _ = train_net(
        "student", nodes, config, Counter, [nodes.features], validation_logits,
        lambda logits: logits[0, 0], 1.0, 0,
    )  # fmt: skip
    assert (trained.best_epoch, trained.epochs, len(trained.losses)) == (best, epochs, epochs)
    assert trained.weights["steps"].item() == pytest.approx(-best, rel=1e-5), "Adam's steps are 1 each here"


def test_a_student_by_a_bare_loop():
    """Cross-entropy of the labelled nodes, Adam with its decay in the gradient, best epoch, as torch alone does it."""
    nodes = on_device(tiny_graph(), "row_normalised")
    config = config_of(layers=2, hidden=8, student_dropout=0.0, epochs=12, weight_decay=0.01, patience=12)
    losses = {"student": lambda task: labels_alone(LabelsConfig(), task)}
    found = train_seed(nodes, config, losses, 5)["student"]
    features = torch.from_numpy(tiny_nodes()["features"])
    features = features / features.sum(dim=1, keepdim=True).clamp(min=1)
    net = open_student(12, 3, layers=2, hidden=8, dropout=0.0)
    from datagen.contracts.seeding import derive_seed

    torch.manual_seed(derive_seed(5, "student"))
    for one in net.modules():
        if isinstance(one, nn.Linear):
            one.reset_parameters()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.01)
    train, validation, test = (nodes.parts[part] for part in ("train", "validation", "test"))
    best, expected = -1.0, {}
    for _ in range(12):
        loss = functional.cross_entropy(net(features)[train], nodes.labels[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = (net(features)[validation].argmax(1) == nodes.labels[validation]).double().mean().item()
        if right >= best:
            best, expected = right, {name: one.clone() for name, one in net.state_dict().items()}
    for name, one in found.weights.items():
        assert torch.allclose(one, expected[name], rtol=1e-4, atol=1e-6)
    net.load_state_dict(expected)
    right = (net(features)[test].argmax(1) == nodes.labels[test]).double().mean().item()
    assert found.accuracy["test"] == right and found.accuracy["validation"] == best


def test_the_students_of_a_seed_start_alike_and_another_seed_does_not():
    """A loss that learns nothing leaves the initial weights; the global generator is left as it was."""
    nodes = on_device(tiny_graph(), "as_given")
    config = config_of(layers=1, hidden=8, epochs=1, weight_decay=0)

    def nothing(task: Task):
        return lambda logits: logits.sum() * 0

    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = train_seed(nodes, config, {"a": nothing, "b": nothing}, 1)
    two = train_seed(nodes, config, {"a": nothing}, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one["a"].weights[name], one["b"].weights[name]) for name in one["a"].weights)
    assert not torch.equal(one["a"].weights["layers.0.weight"], two["a"].weights["layers.0.weight"])


def test_a_loss_that_is_not_finite_is_named():
    nodes = on_device(tiny_graph(), "as_given")
    config = config_of(layers=2, hidden=8, epochs=3, learning_rate=0.5)
    with pytest.raises(
        DataError, match=r"student: diverged: its loss is nan at epoch 1; set a learning rate below 0\.5"
    ):
        train_seed(nodes, config, {"student": lambda task: lambda logits: logits.sum() * float("nan")}, 0)


def test_figures_by_hand():
    """Means, and differences seed by seed; Student's t of one degree of freedom is 12.7062."""
    found = summarise(
        [{"teacher": 0.8, "baseline": 0.5, "student": 0.9}, {"teacher": 0.7, "baseline": 0.6, "student": 0.7}]
    )
    half = 12.7062 * 0.1
    assert found["student"]["mean"] == 0.8 and found["student"]["by_seed"] == [0.9, 0.7]
    assert found["student"]["high"] == pytest.approx(0.8 + half, abs=1e-4)
    assert found["student"]["over_teacher"]["by_seed"] == [0.1, 0.0]
    assert found["student"]["over_baseline"]["mean"] == 0.25
    assert "over_teacher" not in found["teacher"] and "over_baseline" not in found["baseline"]


def test_accuracy_is_the_share_that_is_right():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 4.0]])
    assert accuracy(logits, torch.tensor([0, 0, 1])) == pytest.approx(2 / 3)
