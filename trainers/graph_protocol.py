"""The one evaluation of condensed graphs: every arm trains the same students, as long, from sets of as many bytes.

Arms, pairs of seeds, the choice of the learning rate on validation graphs and the one look at the test graphs are those
of `trainers.protocol`, with hard labels alone. A coreset is real graphs whose bytes, as `condense.condensed_graphs`
counts every set, are those of the condensed set or fewer; it is chosen anew for each seed, on embeddings of the graphs
(`condense.graph_embedding`). Arms are compared by the area under the ROC curve where there are two classes, else by
accuracy. All arms but those with a codebook have the same vocabulary of labels, that of the training graphs, and so
the same initial weights; a label that an arm's own graphs have not adds nothing to its students' nodes.

Source: what arXiv:2605.18893 (2026) asks of an evaluation of condensed graphs: one artefact for all networks, bytes in
place of nodes, and the time of condensing beside that of training on everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
from pydantic import Field, PositiveFloat, field_validator

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.stage import find_methods
from trainers.graph_steps import Network, Steps
from trainers.protocol import MIN_SEEDS, RANDOM, Outcome, Regime, check_coresets, check_lengths, each_once, two_or_more

MIN_NETS = 2


class Config(Params):
    """What is compared.

    Attributes:
        nets: of `trainers.graph_nets`, 2 or more; by the first is said whether condensing was worth it.
        coresets: methods of `condense.coresets` that need no training, at_random among them.
        learning_rates: that every arm's is chosen among.
        n_steps: of the optimiser, for every set but everything.
        whole_steps: for everything, `n_steps` or more, so that what condensing loses is not understated.
        seeds: students of an arm and net.
        seeds_for_rate: of them, the first, by whose mean the rate is chosen.
        multiples: of a coreset's bytes: larger ones that are tried where a condensed set is better than the coreset of
            equal bytes, to know what its score costs without condensing.
        max_shared_share: of the smaller of two parts, the graphs that may be in the other, node by node and edge by
            edge; small graphs with few labels are often equal.
    """

    nets: list[str] = Field(default=["gin", "gat", "sage", "gcn"])
    coresets: list[str] = Field(default=[RANDOM, "herding", "k_means"])
    learning_rates: list[PositiveFloat] = Field(default=[0.0003, 0.001, 0.003, 0.01], min_length=1)
    n_steps: int = Field(300, ge=1)
    whole_steps: int = Field(3000, ge=1)
    seeds: int = Field(10, ge=MIN_SEEDS)
    seeds_for_rate: int = Field(3, ge=1)
    multiples: list[int] = Field(default=[2, 5])
    max_shared_share: float = Field(0.5, ge=0, lt=1)

    _each_once = field_validator("nets", "coresets", "learning_rates", "multiples")(each_once)
    _is_more = field_validator("multiples")(two_or_more)

    @property
    def regimes(self) -> Sequence[Regime]:
        """Graphs have hard labels alone."""
        return ("hard",)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStudentScore:
    """One student's score.

    Attributes:
        id: arm, net and seed.
        arm: a condensed set's folder; a coreset's method and the bytes that it may have; or whole.
        kind: whole, condensed or coreset.
        net: the student.
        seed: from 0; equal ones are compared.
        n_graphs: that it learned from.
        bytes: of what it learned from.
        learning_rate: chosen on validation graphs.
        validation: at that rate, by the measure that arms are compared by.
        accuracy: on test graphs.
        auc: likewise; null where there are more than two classes.
    """

    id: str
    arm: str
    kind: str
    net: str
    seed: int
    n_graphs: int
    bytes: int
    learning_rate: float
    validation: float
    accuracy: float
    auc: float | None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "arm": pl.String,
        "kind": pl.String,
        "net": pl.String,
        "seed": pl.Int32,
        "n_graphs": pl.Int32,
        "bytes": pl.Int64,
        "learning_rate": pl.Float64,
        "validation": pl.Float64,
        "accuracy": pl.Float64,
        "auc": pl.Float64,
    }


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against this protocol's Config and those of the students."""
    params = validate(section, Config, Network, Steps)
    config = params[Config]
    check_coresets(config.coresets)
    check_lengths(config, config.n_steps)
    methods = find_methods("trainers.graph_nets")
    if unknown := [net for net in config.nets if net not in methods]:
        raise ParamsError(f"nets: no {unknown[0]!r} in trainers.graph_nets; there are {', '.join(methods)}")
    if len(config.nets) < MIN_NETS:
        raise ParamsError(f"nets: what serves one net says little; name {MIN_NETS} or more (got {config.nets})")
    return params


def scores(outcome: Outcome, sizes: Sequence[tuple[int, int]]) -> list[GraphStudentScore]:
    """A row for each of its students.

    Args:
        outcome: of a cell.
        sizes: by seed the graphs and the bytes that a student learned from.
    """
    cell, arm = outcome.cell, outcome.cell.arm
    aucs = outcome.auc or (None,) * len(outcome.accuracy)
    columns = zip(outcome.validation, outcome.accuracy, aucs, sizes, strict=True)
    return [
        GraphStudentScore(
            id=f"{arm.name}/{cell.net}/{seed}", arm=arm.name, kind=arm.kind, net=cell.net, seed=seed, n_graphs=n_graphs,
            bytes=n_bytes, learning_rate=outcome.learning_rate, validation=validation, accuracy=accuracy, auc=auc,
        )
        for seed, (validation, accuracy, auc, (n_graphs, n_bytes)) in enumerate(columns)
    ]  # fmt: skip
