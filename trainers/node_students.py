"""Node students: on one graph a teacher that sees it, an MLP that learns from it, and an MLP that learns labels alone.

A seed has a teacher, and students with the same initial weights and the same noise whatever they learn. All are trained
on the whole graph at once, a step an epoch, and each is the one of the epoch that was best on the validation nodes (of
equally good ones the last, as in the code of FF-G2M, arXiv:2305.10758); training ends `patience` epochs after it. The
test nodes are judged once, at the end. Of the test nodes, features and edges are known while training, and no label:
the transductive setting. Departure: that code restores the teacher of the best epoch and not the student, and takes
the test accuracy that the student had then, which is the same number.

This is not `trainers.loop`: there is one row, nothing to cut or to share, and the epoch that is kept is known only when
training has ended. A training takes seconds to minutes, so what is kept in case of a kill is each finished seed.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.backends.transformers_models import device_type
from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import load_method

if TYPE_CHECKING:  # a stage reads Config without torch
    from torch import Tensor, nn

    from datagen.contracts.node_graphs import NodeGraph
    from trainers.methods.graph import NodeLoss, Task

STAGE = "train_node"
FAMILY = "trainers.methods.graph"
DEFAULT_METHOD = "ff_g2m"
BASELINE = "labels_alone"

log = logging.getLogger(__name__)


class Config(Params):
    """Who teaches whom. Defaults are those of Cora with a GCN, in the code of FF-G2M (param/best_parameters.json).

    Attributes:
        method: of `trainers.methods.graph`.
        name: of the graph, where the folder holds several.
        features: as they are, or each row over the sum of its absolute values, as the papers' loaders do.
        teacher: gcn, gat or sage, see `trainers.node_nets`.
        layers: of teacher and students; 1 is a linear map.
        hidden: units of a hidden layer of teacher and students.
        teacher_dropout: share.
        student_dropout: share.
        heads: of gat.
        attention_dropout: of gat.
        epochs: at most.
        patience: epochs without a better validation accuracy, after which training ends.
        teacher_learning_rate: of Adam.
        learning_rate: of the students.
        weight_decay: of all, a part of the gradient.
        seeds: how many teachers, each with its students.
        n_threads: on the CPU, where rounding depends on it.
        seed: of initial weights and dropout.
    """

    method: str = DEFAULT_METHOD
    name: str | None = None
    features: Literal["row_normalised", "as_given"] = "row_normalised"
    teacher: Literal["gat", "gcn", "sage"] = "gcn"
    layers: int = Field(3, ge=1)
    hidden: int = Field(512, ge=1)
    teacher_dropout: float = Field(0.5, ge=0, lt=1)
    student_dropout: float = Field(0.6, ge=0, lt=1)
    heads: int = Field(4, ge=1)
    attention_dropout: float = Field(0.3, ge=0, lt=1)
    epochs: int = Field(500, ge=1)
    patience: int = Field(50, ge=1)
    teacher_learning_rate: float = Field(0.01, gt=0)
    learning_rate: float = Field(0.01, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    seeds: int = Field(5, ge=1)
    n_threads: int = Field(2, ge=1)
    seed: int = 2022


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    params = validate({**section, "method": name}, Config, load_method(FAMILY, name).Config)
    config = params[Config]
    if config.teacher == "gat" and config.hidden % config.heads:
        raise ParamsError(
            f"hidden: gat shares it among {config.heads} heads; give a multiple of that (got {config.hidden})"
        )
    return params


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """A graph on one device.

    Attributes:
        features: (V, D), dense or sparse.
        of_validation: those of the validation nodes.
        edges: (2, E), each once.
        both_ways: (2, 2 E).
        labels: (V,).
        parts: train, validation and test, positions.
        n_classes: C.
    """

    features: "Tensor"
    of_validation: "Tensor"
    edges: "Tensor"
    both_ways: "Tensor"
    labels: "Tensor"
    parts: "Mapping[str, Tensor]"
    n_classes: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network at its best epoch.

    Attributes:
        weights: by name.
        accuracy: of the parts.
        best_epoch: from 1.
        epochs: that it was trained.
        losses: of each.
    """

    weights: "Mapping[str, Tensor]"
    accuracy: Mapping[str, float]
    best_epoch: int
    epochs: int
    losses: list[float]


def on_device(graph: "NodeGraph", features: Literal["row_normalised", "as_given"]) -> Nodes:
    """Tensors of a graph."""
    import torch

    from datagen.contracts.node_graphs import PARTS
    from trainers.node_nets import feature_tensor

    device = device_type()
    rows = graph.features.normalised() if features == "row_normalised" else graph.features
    return Nodes(
        features=feature_tensor(rows, device),
        of_validation=feature_tensor(rows.take(graph.validation), device),
        edges=torch.from_numpy(graph.edges).to(device),
        both_ways=torch.from_numpy(graph.both_ways()).to(device),
        labels=torch.from_numpy(graph.labels).to(device),
        parts={part: torch.from_numpy(getattr(graph, part)).to(device) for part in PARTS},
        n_classes=len(graph.classes),
    )


def train_seed(
    nodes: Nodes, config: Config, losses: "Mapping[str, Callable[[Task], NodeLoss]]", seed: int
) -> dict[str, Trained]:
    """A teacher and its students.

    Args:
        nodes: the graph.
        config: the stage's.
        losses: name of a student to what it learns; `teacher` is no name.
        seed: of this teacher and these students.

    Returns:
        By name, the teacher first.

    Raises:
        DataError: one diverged.
        ParamsError: the teacher cannot be built.
    """
    from trainers.methods.graph import Task
    from trainers.methods.graph._terms import labels_term
    from trainers.node_nets import open_student, open_teacher

    n_features = nodes.features.shape[1]
    shape = {"layers": config.layers, "hidden": config.hidden}

    def teacher() -> "nn.Module":
        return open_teacher(
            config.teacher, n_features, nodes.n_classes, dropout=config.teacher_dropout, heads=config.heads,
            attention_dropout=config.attention_dropout, **shape,
        )  # fmt: skip

    def student() -> "nn.Module":
        return open_student(n_features, nodes.n_classes, dropout=config.student_dropout, **shape)

    def validation_logits(net: "nn.Module") -> "Tensor":
        return logits_of(net, [nodes.features, nodes.both_ways])[nodes.parts["validation"]]

    trained, teacher_logits = train_net(
        "teacher", nodes, config, teacher, [nodes.features, nodes.both_ways], validation_logits,
        lambda logits: labels_term(logits, nodes.labels, nodes.parts["train"]),
        config.teacher_learning_rate, derive_seed(seed, "teacher"),
    )  # fmt: skip
    task = Task(edges=nodes.edges, labels=nodes.labels, train=nodes.parts["train"], teacher_logits=teacher_logits)
    found = {"teacher": trained}
    for name, loss_of in losses.items():
        found[name], _ = train_net(
            name, nodes, config, student, [nodes.features], lambda net: logits_of(net, [nodes.of_validation]),
            loss_of(task), config.learning_rate, derive_seed(seed, "student"),
        )  # fmt: skip
    return found


def train_net(
    name: str,
    nodes: Nodes,
    config: Config,
    build: "Callable[[], nn.Module]",
    sees: "list[Tensor]",
    validation_logits: "Callable[[nn.Module], Tensor]",
    loss_of: "NodeLoss",
    learning_rate: float,
    seed: int,
) -> "tuple[Trained, Tensor]":
    """A network at its best epoch, and its logits (V, C) of all nodes; torch's global generator is left as it was.

    Args:
        name: for the error.
        nodes: the graph.
        config: the stage's.
        build: makes the network, with weights drawn from torch's generator.
        sees: what the network takes.
        validation_logits: what it says of the validation nodes, without dropout.
        loss_of: of its logits.
        learning_rate: of Adam.
        seed: of weights and dropout.

    Raises:
        DataError: the loss is not finite.
    """
    import torch

    devices = [nodes.features.device] if nodes.features.is_cuda else []
    chosen_by = nodes.labels[nodes.parts["validation"]]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        net = build().to(nodes.features.device)
        optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate, weight_decay=config.weight_decay, fused=True)
        best, best_epoch, epoch = -1.0, 0, 0
        weights: dict[str, torch.Tensor] = {}
        losses: list[float] = []
        while epoch < config.epochs and epoch - best_epoch < config.patience:
            epoch += 1
            net.train()
            loss = loss_of(net(*sees))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise DataError(
                    f"{name}: diverged: its loss is {losses[-1]} at epoch {epoch}; set a learning rate below "
                    f"{learning_rate:g}"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right = accuracy(validation_logits(net), chosen_by)
            if right >= best:
                best, best_epoch = right, epoch
                weights = {key: one.detach().clone() for key, one in net.state_dict().items()}
    net.load_state_dict(weights)
    logits = logits_of(net, sees)
    judged = {part: accuracy(logits[at], nodes.labels[at]) for part, at in nodes.parts.items()}
    trained = Trained(weights=weights, accuracy=judged, best_epoch=best_epoch, epochs=epoch, losses=losses)
    return trained, logits


def logits_of(net: "nn.Module", sees: "list[Tensor]") -> "Tensor":
    """(N, C), without dropout and without a gradient."""
    import torch

    net.eval()
    with torch.no_grad():
        return net(*sees)


def accuracy(logits: "Tensor", labels: "Tensor") -> float:
    """Share of the nodes whose greatest logit is their label's."""
    return float((logits.argmax(dim=1) == labels).double().mean())


def fit(section: Mapping[str, Any], graph: str, checkpoints: str, out: str) -> dict[str, Any]:
    """Train every seed and write the folder `out`; of several processes each takes some of the seeds.

    Args:
        section: as `parse` takes it.
        graph: as `datagen.contracts.node_graphs.read_node_graph` reads it.
        checkpoints: folder where finished seeds are kept.
        out: gets teacher-I, student-I and baseline-I.safetensors, loss.json and manifest.json.

    Returns:
        See `summarise`.

    Raises:
        DataError: the graph, or a network that diverges.
    """
    import torch
    from accelerate import PartialState

    from datagen.contracts.node_graphs import read_node_graph

    params = parse(section)
    config = params[Config]
    method = load_method(FAMILY, config.method)
    state = PartialState(cpu=device_type() == "cpu")
    if device_type() == "cpu":
        torch.set_num_threads(config.n_threads)
    read = read_node_graph(Path(graph), config.name)
    nodes, kept = on_device(read, config.features), Path(checkpoints)
    baseline = load_method(FAMILY, BASELINE)
    losses: dict[str, Callable[[Task], NodeLoss]] = {
        "student": lambda task: getattr(method, config.method)(params[method.Config], task),
        "baseline": lambda task: getattr(baseline, BASELINE)(baseline.Config(), task),
    }
    log.info("%s: %d nodes, %d edges, %d seeds", STAGE, len(read), read.edges.shape[1], config.seeds)
    for i in range(state.process_index, config.seeds, state.num_processes):
        if not (kept / f"seed-{i}.json").exists():
            failed = kept / f"failed-{i}.txt"  # for the process that others wait for
            failed.unlink(missing_ok=True)
            try:
                _keep(kept, i, train_seed(nodes, config, losses, derive_seed(config.seed, "node", i)))
            except DataError as error:
                failed.write_text(str(error), encoding="utf-8")
                break
            log.info("%s: seed %d of %d is done", STAGE, i + 1, config.seeds)
    state.wait_for_everyone()
    if failures := sorted(kept.glob("failed-*.txt")):
        raise DataError(failures[0].read_text(encoding="utf-8"))
    records = [json.loads((kept / f"seed-{i}.json").read_text()) for i in range(config.seeds)]
    metrics = {
        "n_nodes": len(read),
        "n_edges": int(read.edges.shape[1]),
        **{f"n_{part}": len(positions) for part, positions in nodes.parts.items()},
        **summarise([{name: one["accuracy"]["test"] for name, one in record.items()} for record in records]),
        "validation": {
            name: round(sum(record[name]["accuracy"]["validation"] for record in records) / len(records), 4)
            for name in records[0]
        },
    }
    if state.is_main_process:
        manifest = {
            "format": "datastill",
            "record": "NodeStudents",
            "stage": STAGE,
            "params": params.values(),
            **made_of({"graph": Path(graph)}),
            "classes": list(read.classes),
            **metrics,
        }
        _write(Path(out), kept, records, manifest)
    state.wait_for_everyone()
    return metrics


def summarise(accuracies: list[dict[str, float]]) -> dict[str, Any]:
    """Test accuracies of the seeds by name: mean, t-interval and each seed's; how far a student is above the others.

    `over_teacher` and `over_baseline` are differences seed by seed, in each student's entry.
    """
    from trainers.fresh_students import summary

    def over(name: str, other: str) -> dict[str, Any]:
        return summary([one[name] - one[other] for one in accuracies])

    found = {name: summary([one[name] for one in accuracies]) for name in accuracies[0]}
    for name, entry in found.items():
        if name not in ("teacher", "baseline"):
            entry |= {"over_teacher": over(name, "teacher"), "over_baseline": over(name, "baseline")}
    return found


def _keep(kept: Path, seed: int, trained: Mapping[str, Trained]) -> None:
    """A finished seed; the record comes last, so that a kill leaves no record without its weights."""
    from safetensors.torch import save_file

    for name, one in trained.items():
        weights = {key: value.cpu().contiguous() for key, value in one.weights.items()}
        save_file(weights, kept / f"{name}-{seed}.safetensors")
    records = {
        name: {
            "accuracy": dict(one.accuracy), "best_epoch": one.best_epoch, "epochs": one.epochs, "losses": one.losses
        }
        for name, one in trained.items()
    }  # fmt: skip
    write_json(kept / f"seed-{seed}.json", records)


def _write(out: Path, kept: Path, records: list[dict[str, Any]], manifest: Mapping[str, Any]) -> None:
    """The folder; what was kept in case of a kill goes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    weights = sorted(kept.glob("*.safetensors"))
    for file in weights:
        shutil.copyfile(file, out / file.name)
    write_json(out / "loss.json", records)
    files = {file.name: content_hash(file) for file in sorted(out.iterdir())}
    write_json(out / "manifest.json", {**manifest, "files": files})
    for left in [*kept.glob("seed-*.json"), *weights]:  # the records first: none without its weights
        left.unlink()
