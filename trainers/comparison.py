"""Which arms meet which: the coresets of as many bytes as each condensed set, in each regime, and their students.

Source: none; the rules are those of `trainers.protocol`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol

from trainers.comparison_figures import best_of
from trainers.kept_outcomes import Positions
from trainers.protocol import STANDARD, Arm, Cell, Outcome, Regime

AnyBench = Any  # `image_bench.Bench`, or `graph_bench.Bench` where the kind is that module
Place = tuple[str, str, str]  # arm, regime, net


@dataclass(kw_only=True)
class Comparison:
    """What was compared.

    Attributes:
        outcomes: of every cell, by place.
        rivals: condensed set and regime to its coresets, of as many bytes and with labels of the same kind.
        of_hard_labels: condensed set with soft labels to the coresets of as many bytes that have hard ones.
        larger: condensed set to the larger coresets that were tried, the last as good as the set or none.
        choosing_s: coreset to the seconds of choosing it.
        chosen: coreset to the positions in the training set that it has, by seed.
        measure: by which arms are compared; an attribute of every outcome.
    """

    outcomes: dict[Place, Outcome] = field(default_factory=dict[Place, Outcome])
    rivals: dict[tuple[str, str], list[str]] = field(default_factory=dict[tuple[str, str], list[str]])
    of_hard_labels: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    larger: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    choosing_s: dict[str, float] = field(default_factory=dict[str, float])
    chosen: dict[str, Sequence[Positions]] = field(default_factory=dict[str, Sequence[Positions]])
    measure: Literal["accuracy", "auc"] = "accuracy"

    def by_seed(self, arm: str, regime: str, net: str) -> tuple[float, ...]:
        """The measure of each student."""
        return getattr(self.outcomes[arm, regime, net], self.measure)

    def best(self, arms: Sequence[str], regime: str, net: str) -> str:
        """The arm with the highest mean."""
        return best_of({arm: self.by_seed(arm, regime, net) for arm in arms})


class Kind(Protocol):
    """What is compared, images or graphs: the module of its bench, with these functions."""

    def condensed_arm(self, name: str, condensed: Any, counts: Mapping[str, int]) -> Arm:
        """A condensed set of which `counts` bytes are stored."""
        ...

    def coreset_arm(self, method: str, size: int, bench: AnyBench) -> Arm:
        """A coreset of such a size."""
        ...

    def whole_arm(self, bench: AnyBench) -> Arm:
        """Everything."""
        ...

    def n_affordable(self, budget: int, bench: AnyBench, *, soft: bool) -> int:
        """The size that `budget` bytes pay for, with soft labels or without."""
        ...

    def transform_of(self, condensed: Any, bench: AnyBench) -> str:
        """The name of what students of a set read others through."""
        ...

    def choose(self, method: str, size: int, bench: AnyBench) -> tuple[list[Positions], float]:
        """A coreset for each seed, and the mean seconds that one takes."""
        ...

    def train_cells(self, bench: AnyBench, cells: Sequence[Cell], kept: Path) -> Iterator[Outcome]:
        """Each cell's outcome, in order; `kept` holds those that are done."""
        ...

    def with_teachers(self, bench: AnyBench, outcomes: Sequence[Outcome]) -> AnyBench:
        """The bench with the teachers that were trained."""
        ...


def compare(
    bench: AnyBench,
    counts: Mapping[str, Mapping[str, int]],
    kept: Path,
    advance: Callable[[Cell, int], None],
    *,
    kind: Kind,
    measure: Literal["accuracy", "auc"] = "accuracy",
) -> Comparison:
    """Train every arm's students.

    Args:
        bench: of that kind.
        counts: condensed set to its bytes, as `condense.condensed.count_bytes`.
        kept: folder of what is done, see `train_cells`.
        advance: called for each cell that is done, with the number of cells that are known to be left.
        kind: what is compared.
        measure: by which it is.
    """
    config, found = bench.config, Comparison(measure=measure)
    arms, cells = _cells(kind, bench, counts, found)
    for arm in arms.values():
        if arm.kind == "coreset":
            bench = _choose(kind, arm, bench, found)
    transforms = list(bench.transforms) if "teacher" in config.regimes else [STANDARD]
    whole = [Cell(arm=kind.whole_arm(bench), regime="hard", net=net, transform=STANDARD) for net in config.nets]
    teachers = [replace(whole[0], transform=one) for one in transforms if one != STANDARD]
    first = _first_alike(bench)
    distinct = [cell for cell in cells if first.get(cell.arm.name, cell.arm.name) == cell.arm.name]
    left = len(whole) + len(teachers) + len(distinct)

    def train(bench: AnyBench, cells: Sequence[Cell]) -> list[Outcome]:
        nonlocal left
        done: list[Outcome] = []
        for outcome in kind.train_cells(bench, cells, kept):
            done.append(outcome)
            left = max(left - 1, 0)
            advance(outcome.cell, left)
        return done

    of_everything = train(bench, [*whole, *teachers])
    bench = kind.with_teachers(bench, of_everything)
    trained = [*of_everything[: len(whole)], *train(bench, distinct)]
    by_place = {(one.cell.arm.name, one.cell.regime, one.cell.net): replace(one, weights=None) for one in trained}
    for cell in (*whole, *cells):
        name = first.get(cell.arm.name, cell.arm.name)
        outcome = replace(by_place[name, cell.regime, cell.net], cell=cell)
        found.outcomes[cell.arm.name, cell.regime, cell.net] = outcome
    if "hard" in config.regimes:
        for name in bench.condensed:
            bench = _try_larger(kind, name, bench, found, train)
    return found


def _cells(
    kind: Kind, bench: AnyBench, counts: Mapping[str, Mapping[str, int]], found: Comparison
) -> tuple[dict[str, Arm], list[Cell]]:
    """Arms by name, and what must be trained of them; each coreset once, whoever it is a rival of."""
    config = bench.config
    arms: dict[str, Arm] = {}
    regimes: dict[tuple[str, Regime], str] = {}  # to the transform

    def coresets(budget: int, regime: Regime) -> list[str]:
        size = kind.n_affordable(budget, bench, soft=regime == "soft")
        rivals = [kind.coreset_arm(method, size, bench) for method in config.coresets]
        for rival in rivals:
            arms[rival.name] = rival
            regimes[rival.name, regime] = STANDARD
        return [rival.name for rival in rivals]

    for name, condensed in bench.condensed.items():
        arm = arms[name] = kind.condensed_arm(name, condensed, counts[name])
        transform = kind.transform_of(condensed, bench)
        sizes = dict(arm.bytes_of)
        for regime in config.regimes:
            if (budget := sizes.get(regime)) is not None:
                regimes[name, regime] = transform
                found.rivals[name, regime] = coresets(budget, regime)
        if "soft" in config.regimes and "hard" in config.regimes and "soft" in sizes:
            found.of_hard_labels[name] = coresets(sizes["soft"], "hard")
    nets: list[str] = config.nets
    cells = [
        Cell(arm=arms[name], regime=regime, net=net, transform=transform)
        for ((name, regime), transform), net in product(regimes.items(), nets)
    ]
    return arms, cells


def _choose(kind: Kind, arm: Arm, bench: AnyBench, found: Comparison) -> AnyBench:
    chosen, found.choosing_s[arm.name] = kind.choose(arm.name.rpartition("-")[0], arm.size, bench)
    found.chosen[arm.name] = chosen
    return replace(bench, coresets={**bench.coresets, arm.name: chosen})


def _first_alike(bench: AnyBench) -> dict[str, str]:
    """Coreset to the first of those that chose the same rows in the same order, whose students are its own too."""
    by_choice: dict[tuple[bytes, ...], str] = {}
    return {
        name: by_choice.setdefault(tuple(one.tobytes() for one in chosen), name)
        for name, chosen in bench.coresets.items()
    }


def _try_larger(
    kind: Kind,
    name: str,
    bench: AnyBench,
    found: Comparison,
    train: Callable[[AnyBench, Sequence[Cell]], list[Outcome]],
) -> AnyBench:
    """Larger coresets of the best method, until one is as good as the condensed set on the first net."""
    net = bench.config.nets[0]
    mine = sum(found.by_seed(name, "hard", net))
    best = found.best(found.rivals[name, "hard"], "hard", net)
    method, _, size = best.rpartition("-")
    found.larger[name] = []
    for multiple in sorted(bench.config.multiples):
        last = (found.larger[name] or [best])[-1]
        arm = kind.coreset_arm(method, min(multiple * int(size), kind.whole_arm(bench).size), bench)
        if sum(found.by_seed(last, "hard", net)) >= mine or arm.name == last:
            break
        if (arm.name, "hard", net) not in found.outcomes:
            if arm.name not in bench.coresets:
                bench = _choose(kind, arm, bench, found)
            (outcome,) = train(bench, [Cell(arm=arm, regime="hard", net=net, transform=STANDARD)])
            found.outcomes[arm.name, "hard", net] = outcome
        found.larger[name].append(arm.name)
    return bench
