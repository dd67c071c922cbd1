"""The words of the one evaluation of condensed data: of images (`image_protocol`) and of graphs (`graph_protocol`).

An arm is a condensed set, a coreset of as many bytes, or everything. A cell is an arm's students of one net in one
regime of labels; they differ in their seed alone.

Source: regimes as in Dey et al. Rethinking Dataset Distillation. 2026. arXiv:2604.18811.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import find_methods, load_method

Regime = Literal["hard", "soft", "teacher"]
Kind = Literal["whole", "condensed", "coreset"]
WHOLE = "whole"
STANDARD = "standard"  # the name of the training set's own transform
RANDOM = "at_random"  # what improvement over random is measured by
MIN_SEEDS = 5


def each_once(value: list[Any]) -> list[Any]:
    """A list that names nothing twice, or a ValueError."""
    if len(set(value)) < len(value):
        raise ValueError("names one twice")
    return value


def two_or_more(value: list[int]) -> list[int]:
    """Numbers of 2 or more, or a ValueError."""
    if any(one < 2 for one in value):
        raise ValueError("each must be 2 or more")
    return value


class Compared(Protocol):
    """What the Configs of images and of graphs have in common; their docstrings say what each is."""

    @property
    def nets(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def regimes(self) -> Sequence[Regime]: ...  # noqa: D102
    @property
    def whole_steps(self) -> int: ...  # noqa: D102
    @property
    def seeds(self) -> int: ...  # noqa: D102
    @property
    def seeds_for_rate(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What students learn from.

    Attributes:
        name: a condensed set's folder; a coreset's method and size, such as k_means-10; or whole.
        kind: which of them.
        size: what sets of its kind are measured by: the number of images; of graphs the bytes, of coresets those that
            may be spent.
        bytes_of: regime to what is stored for it, in the order in which the regimes are named.
    """

    name: str
    kind: Kind
    size: int
    bytes_of: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Students that differ in their seed alone; `transform` names that of their images."""

    arm: Arm
    regime: Regime
    net: str
    transform: str

    @property
    def n_bytes(self) -> int:
        """Of the set, with the labels of this regime."""
        return dict(self.arm.bytes_of)[self.regime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a cell: the rate that was chosen, and by seed accuracies in [0, 1] and seconds of training.

    `validation` is by the measure that the rate was chosen by; `auc` the area under the ROC curve, in [0, 1], where it
    is measured. `weights` are those of the first student, where it may become a teacher.
    """

    cell: Cell
    learning_rate: float
    accuracy: tuple[float, ...]
    validation: tuple[float, ...]
    seconds: tuple[float, ...]
    auc: tuple[float, ...] = ()
    weights: Any = None


def check_coresets(coresets: Sequence[str]) -> None:
    """They are methods that need no training, at_random among them.

    Raises:
        ParamsError: they are not.
    """
    methods = find_methods("condense.coresets")
    if unknown := [name for name in coresets if name not in methods]:
        raise ParamsError(f"coresets: no {unknown[0]!r} in condense.coresets; there are {', '.join(methods)}")
    if RANDOM not in coresets:
        raise ParamsError(f"coresets: must have {RANDOM}, which the others are measured by (got {coresets})")
    for name in coresets:
        if hasattr(load_method("condense.coresets", name, key="coresets"), "READS_TRAINING"):
            raise ParamsError(
                f"coresets: {name} needs to know what experts got right after each epoch, and nobody trains any here; "
                f"leave it out, or condense by it and give the set with --condensed (got {coresets})"
            )


def check_lengths(config: Compared, n_steps: int) -> None:
    """Everything is trained no shorter than a small set of `n_steps`, and rates are chosen by students that there are.

    Raises:
        ParamsError: otherwise.
    """
    if config.whole_steps < n_steps:
        raise ParamsError(
            f"whole_steps: everything must be trained as long as a small set, {n_steps} steps or more "
            f"(got {config.whole_steps})"
        )
    if config.seeds_for_rate > config.seeds:
        raise ParamsError(f"seeds_for_rate: there are {config.seeds} seeds (got {config.seeds_for_rate})")
