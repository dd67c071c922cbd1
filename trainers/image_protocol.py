"""The one evaluation of condensed images: every arm trains the same students, as long, from sets of as many bytes.

An arm is a condensed set, a coreset of as many bytes, or everything. A result is that of (arm, regime, net, seed):

    regime    hard      each image's class
              soft      the set's own soft labels, stored and counted with it; a coreset's are a teacher's logits
              teacher   a teacher's probabilities for each augmented batch; the teacher is in no arm's bytes
    seed      equal seeds have equal initial weights and equal noise in all arms, so arms are compared pair by pair

All arms have the same augmentation, and all but everything the same number of optimiser steps. Everything has
`whole_steps`, so that what condensing loses is not understated. The learning rate of an arm is chosen for each regime
and net on validation images, among the same rates for all arms: those of the params and the step sizes of all condensed
sets, rounded to 2 digits; the test images are looked at once, with that one. The teacher is the first net, trained on
everything. A coreset is chosen anew for each seed, by pixels as networks see them. A condensed set is one draw of its
method: intervals hold what students' seeds do, not what another seed of condensing would give.

Regimes: Dey et al. Rethinking Dataset Distillation. 2026. arXiv:2604.18811 (HL, SL, SL+KD). Measures beside accuracy:
DD-Ranking, Li et al. 2025, arXiv:2505.13300.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
from pydantic import Field, PositiveFloat, field_validator

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params, Parts, validate
from trainers.image_steps import Steps
from trainers.protocol import MIN_SEEDS, RANDOM, Outcome, Regime, check_coresets, check_lengths, each_once, two_or_more

MIN_ARCHITECTURES = 3
MIN_FAMILIES = 2


class Config(Params):
    """What is compared.

    Attributes:
        nets: students, as `condense.nets.opening` reads them, see `check_nets`; the first is the teacher's too, and the
            one by which is said whether condensing was worth it.
        width: of those without one in their name.
        coresets: methods of `condense.coresets` that images alone are enough for, at_random among them.
        regimes: of the labels; soft for condensed sets that have soft labels.
        learning_rates: that every arm's is chosen among, beside the step sizes of all condensed sets.
        whole_steps: of the optimiser for everything and so for the teacher, `n_steps` or more, so that what condensing
            loses is not understated; the seconds of a student of everything are those of so many.
        seeds: students of an arm, regime and net.
        seeds_for_rate: of them, the first, by whose mean the rate is chosen.
        multiples: of a coreset's images: larger ones that are tried where a condensed set is better than the coreset of
            equal bytes, to know what its accuracy costs without condensing.
        max_shared_share: of the smaller of two parts, the images that may be in the other byte for byte; the exact
            duplicates of a public set are few.
    """

    nets: list[str] = Field(default=["convnet3", "mlp", "resnet18:64"])
    width: int = Field(128, ge=1)
    coresets: list[str] = Field(default=[RANDOM, "herding", "k_center", "k_means"])
    regimes: list[Regime] = Field(default=["hard", "soft", "teacher"], min_length=1)
    learning_rates: list[PositiveFloat] = Field(default=[0.001, 0.003, 0.01, 0.03, 0.1], min_length=1)
    whole_steps: int = Field(5000, ge=1)
    seeds: int = Field(MIN_SEEDS, ge=MIN_SEEDS)
    seeds_for_rate: int = Field(2, ge=1)
    multiples: list[int] = Field(default=[2, 5])
    max_shared_share: float = Field(0.01, ge=0, lt=1)

    _each_once = field_validator("nets", "coresets", "regimes", "learning_rates", "multiples")(each_once)
    _is_more = field_validator("multiples")(two_or_more)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentScore:
    """One student's accuracy.

    Attributes:
        id: arm, regime, net and seed.
        arm: see `Arm.name`.
        kind: whole, condensed or coreset.
        regime: of the labels.
        net: the student.
        seed: from 0; equal ones are compared.
        n_images: that it learned from.
        bytes: of what it learned from.
        learning_rate: chosen on validation images.
        validation_accuracy: at that rate.
        accuracy: on test images.
    """

    id: str
    arm: str
    kind: str
    regime: str
    net: str
    seed: int
    n_images: int
    bytes: int
    learning_rate: float
    validation_accuracy: float
    accuracy: float

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "arm": pl.String,
        "kind": pl.String,
        "regime": pl.String,
        "net": pl.String,
        "seed": pl.Int32,
        "n_images": pl.Int32,
        "bytes": pl.Int64,
        "learning_rate": pl.Float64,
        "validation_accuracy": pl.Float64,
        "accuracy": pl.Float64,
    }


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against this protocol's Config and that of the students' steps."""
    params = validate(section, Config, Steps)
    config = params[Config]
    check_coresets(config.coresets)
    check_lengths(config, params[Steps].n_steps)
    return params


def check_nets(nets: Sequence[str]) -> None:
    """What serves one architecture says little: 3 or more that differ in net, depth or normalisation, of 2 nets.

    Raises:
        ParamsError: they differ in less, or one is no net.
    """
    from condense.nets.opening import parse_net

    found = [parse_net(net, "nets") for net in nets]
    architectures = {(one.method, one.depth, one.norm) for one in found}
    families = {one.method for one in found}
    if len(architectures) < MIN_ARCHITECTURES or len(families) < MIN_FAMILIES:
        raise ParamsError(
            f"nets: what serves one net says little; name {MIN_ARCHITECTURES} or more that differ in net, depth or "
            f"normalisation, not in width alone, among them {MIN_FAMILIES} or more different nets, such as convnet3, "
            f"mlp, resnet18 (got {', '.join(nets)}: {len(architectures)}, of {', '.join(sorted(families))})"
        )


def scores(outcome: Outcome) -> list[StudentScore]:
    """A row for each of its students."""
    cell, arm = outcome.cell, outcome.cell.arm
    return [
        StudentScore(
            id=f"{arm.name}/{cell.regime}/{cell.net}/{seed}", arm=arm.name, kind=arm.kind, regime=cell.regime,
            net=cell.net, seed=seed, n_images=arm.size, bytes=cell.n_bytes, learning_rate=outcome.learning_rate,
            validation_accuracy=validation, accuracy=accuracy,
        )
        for seed, (validation, accuracy) in enumerate(zip(outcome.validation, outcome.accuracy, strict=True))
    ]  # fmt: skip
