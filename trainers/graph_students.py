"""Graph students: fresh networks learn from condensed or real graphs, and are judged on graphs they never saw.

How they are trained: `trainers.graph_steps`, whose defaults are those of Mirage (Gupta et al. 2023, arXiv:2310.09486).
Its published runs give a student the weights of the epoch whose area under the ROC curve on validation graphs was the
largest: `keep` best.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat

from datagen.backends.transformers_models import device_type
from datagen.contracts import licences
from datagen.contracts.dataset import content_hash
from datagen.contracts.errors import DataError
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.seeding import derive_seed
from trainers.fresh_students import train_or_read, with_std, write_students
from trainers.graph_steps import Network, Steps, drawn, fresh_net, loss_of, measures_of, rows_of
from trainers.judged import best
from trainers.made_of import made_of
from trainers.steps import loop_config

if TYPE_CHECKING:
    import torch

    from trainers.graph_batches import GraphTensors

STAGE = "train_graph"

log = logging.getLogger(__name__)


class Config(Params):
    """Who learns, and how long.

    Attributes:
        net: one of `trainers.graph_nets`.
        seeds: students, each with initial weights and an order of its own.
        epochs: passes over the graphs.
        learning_rate: of the optimiser.
        keep: the weights after the last epoch; or best, those after the epoch with the largest AUC on validation
            graphs, the first of equal ones. Of more classes than two, accuracy stands for the area.
    """

    net: str = "gin"
    seeds: int = Field(10, ge=1)
    epochs: int = Field(100, ge=1)
    learning_rate: PositiveFloat = 1e-3
    keep: Literal["last", "best"] = Field("last", json_schema_extra={"unless_default": True})


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against every Config of graph students."""
    return validate(section, Config, Network, Steps)


def fit(
    section: Mapping[str, Any], graphs: str, test: str, checkpoints: str, out: str, validation: str | None = None
) -> dict[str, Any]:
    """Train the students one after another and write them into the folder `out`.

    Args:
        section: as `parse` takes it.
        graphs: condensed graphs, or real ones as `read_graphs` reads them, to learn from.
        test: real graphs that the students are judged on.
        checkpoints: folder of this training's checkpoints; finished students are kept there too.
        out: gets student-I.safetensors, loss.json, manifest.json.
        validation: real graphs that an epoch is chosen by.

    Returns:
        Accuracy and, of two classes that are both in `test`, AUC: by seed with mean, standard deviation and interval;
        learning rate, numbers of graphs and steps, and what labels of `test` were never learned from. With validation
        graphs, the epoch, from 1, that each student's weights are of, and what it reached there.

    Raises:
        DataError: an input, or students that diverge.
    """
    from accelerate import PartialState

    from datagen.contracts.graphs import read_graphs
    from trainers.graph_batches import (
        NEEDS_DEGREES,
        as_learned,
        check_both_classes,
        check_fits,
        columns_of,
        count_unseen,
        read_learned,
        tensors_of,
        warn_without_degrees,
    )

    params = parse(section)
    config, network, steps = params[Config], params[Network], params[Steps]
    is_main = PartialState(cpu=device_type() == "cpu").is_main_process
    learned = read_learned(Path(graphs), network.layers)
    given = {"graphs": graphs, "test": test, "validation": validation}
    hashes = {"graphs": content_hash(Path(graphs)), "test": content_hash(Path(test))}
    if hashes["test"] in (hashes["graphs"], made_of(Path(graphs))):
        raise DataError(f"{test}: the training graphs are these, or were made of them; judge students on others")
    if config.net == NEEDS_DEGREES:
        warn_without_degrees(learned, graphs)
    if validation:
        hashes["validation"] = content_hash(Path(validation))
        if hashes["validation"] in (hashes["test"], hashes["graphs"], made_of(Path(graphs))):
            raise DataError(f"{validation}: the training graphs, what they were made of, or the test; choose by others")
    judged = as_learned(read_graphs(Path(test)), learned)
    check_fits(judged, Path(test), learned.graphs)
    unseen = count_unseen(judged, learned.graphs)
    if any(unseen.values()):
        log.warning("%s: labels that no training graph has, which add nothing to a node or edge: %s", test, unseen)
    seen, shown, chosen_by = tensors_of(learned), tensors_of(judged), None
    if validation:
        chosen = as_learned(read_graphs(Path(validation)), learned)
        check_fits(chosen, Path(validation), learned.graphs)
        check_both_classes(chosen, Path(validation), learned.graphs.classes)
        chosen_by = tensors_of(chosen)
    columns, n_classes = columns_of(learned.graphs), len(learned.graphs.classes)
    an_epoch = math.ceil(len(learned) / steps.batch_size)
    n_steps = config.epochs * an_epoch
    log.info("%s: %d students learn from %d graphs for %d steps", STAGE, config.seeds, len(learned), n_steps)
    found: dict[str, list[float]] = {}
    kept: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for i in range(config.seeds):
        seed = derive_seed(steps.seed, "graph", i)
        net = fresh_net(config.net, columns, n_classes, network, seed).to(seen.labels.device)
        rows = rows_of(seen, steps.weighting, seed)
        net.see(drawn(seen, rows))
        of_student = loop_config(steps, len(learned), config.learning_rate, seed, n_steps=n_steps)
        judge = None
        if chosen_by is not None:
            of_student, judge = of_student.model_copy(update={"judge_every": an_epoch}), _judge(i, chosen_by)
        records = train_or_read(
            STAGE, i, net, rows, loss_of(seen, steps.weighting), of_student, checkpoints, is_main=is_main, judge=judge
        )
        if (step := best(records)) is not None:
            kept.append({"epoch": step // an_epoch, "reached": round(-records[step - 1]["judged"], 4)})
        if (measures := measures_of(net, shown)) is None:
            raise DataError(
                f"student {i} diverged: its outputs on {test} are not finite; set a learning_rate below "
                f"{config.learning_rate:g}"
            )
        for measure, value in measures.items():
            found.setdefault(measure, []).append(value)
        curves += [{"student": i, **record} for record in records]
    metrics = {
        "n_graphs": len(learned),
        "n_test_graphs": len(judged),
        "n_steps": n_steps,
        "learning_rate": config.learning_rate,
        "weighting": steps.weighting,
        "unseen_labels": unseen,
        **{measure: with_std(values) for measure, values in found.items()},
        **({"kept": kept} if kept else {}),
    }
    if is_main:
        manifest = {
            "format": "datastill",
            "record": "GraphStudents",
            "stage": STAGE,
            "params": params.values(),
            **licences.made_of({name: Path(path) for name, path in given.items() if path}),
            "classes": list(learned.graphs.classes),
            "columns": asdict(columns),
            **metrics,
        }
        write_students(Path(out), Path(checkpoints), curves, manifest, {})
    return metrics


def _judge(student: int, graphs: "GraphTensors") -> "Callable[[torch.nn.Module], float]":
    """The negative of what a student reaches on validation graphs, as a judge's lowest answer is the best."""

    def judge(net: "torch.nn.Module") -> float:
        if (measures := measures_of(net, graphs)) is None:
            raise DataError(f"student {student} diverged: its outputs on the validation graphs are not finite")
        return -measures.get("auc", measures["accuracy"])

    return judge
