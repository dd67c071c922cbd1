"""Which arms meet which: the coresets of as many bytes as each condensed set, in each regime, and their students.

Source: none; the rules are those of `trainers.protocol`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from trainers.comparison_figures import best_of
from trainers.protocol import Arm, Cell, Outcome, Regime
from trainers.protocol_bench import (
    STANDARD,
    Bench,
    choose,
    condensed_arm,
    coreset_arm,
    n_affordable,
    name_of,
    train_cells,
    whole_arm,
    with_teachers,
)

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
    """

    outcomes: dict[Place, Outcome] = field(default_factory=dict[Place, Outcome])
    rivals: dict[tuple[str, str], list[str]] = field(default_factory=dict[tuple[str, str], list[str]])
    of_hard_labels: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    larger: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    choosing_s: dict[str, float] = field(default_factory=dict[str, float])

    def accuracy(self, arm: str, regime: str, net: str) -> tuple[float, ...]:
        """By seed."""
        return self.outcomes[arm, regime, net].accuracy

    def best(self, arms: Sequence[str], regime: str, net: str) -> str:
        """The arm with the highest mean."""
        return best_of({arm: self.accuracy(arm, regime, net) for arm in arms})


def compare(
    bench: Bench, counts: Mapping[str, Mapping[str, int]], kept: Path, advance: Callable[[Cell, int], None]
) -> Comparison:
    """Train every arm's students.

    Args:
        bench: see there.
        counts: condensed set to its bytes, as `condense.condensed.count_bytes`.
        kept: folder of what is done, see `train_cells`.
        advance: called for each cell that is done, with the number of cells that are known to be left.
    """
    config, found = bench.config, Comparison()
    arms, cells = _cells(bench, counts, found)
    for arm in arms.values():
        if arm.kind == "coreset":
            bench = _choose(arm, bench, found)
    transforms = list(bench.transforms) if "teacher" in config.regimes else [STANDARD]
    whole = [Cell(arm=whole_arm(bench), regime="hard", net=net, transform=STANDARD) for net in config.nets]
    teachers = [replace(whole[0], transform=one) for one in transforms if one != STANDARD]
    first = _first_alike(bench)
    distinct = [cell for cell in cells if first.get(cell.arm.name, cell.arm.name) == cell.arm.name]
    left = len(whole) + len(teachers) + len(distinct)

    def train(bench: Bench, cells: Sequence[Cell]) -> list[Outcome]:
        nonlocal left
        done: list[Outcome] = []
        for outcome in train_cells(bench, cells, kept):
            done.append(outcome)
            left = max(left - 1, 0)
            advance(outcome.cell, left)
        return done

    of_everything = train(bench, [*whole, *teachers])
    bench = with_teachers(bench, of_everything)
    trained = [*of_everything[: len(whole)], *train(bench, distinct)]
    by_place = {(one.cell.arm.name, one.cell.regime, one.cell.net): replace(one, weights=None) for one in trained}
    for cell in (*whole, *cells):
        name = first.get(cell.arm.name, cell.arm.name)
        outcome = replace(by_place[name, cell.regime, cell.net], cell=cell)
        found.outcomes[cell.arm.name, cell.regime, cell.net] = outcome
    if "hard" in config.regimes:
        for name in bench.condensed:
            bench = _try_larger(name, bench, found, train)
    return found


def _cells(
    bench: Bench, counts: Mapping[str, Mapping[str, int]], found: Comparison
) -> tuple[dict[str, Arm], list[Cell]]:
    """Arms by name, and what must be trained of them; each coreset once, whoever it is a rival of."""
    config = bench.config
    arms: dict[str, Arm] = {}
    regimes: dict[tuple[str, Regime], str] = {}  # to the transform

    def coresets(budget: int, regime: Regime) -> list[str]:
        n_images = n_affordable(budget, bench, soft=regime == "soft")
        rivals = [coreset_arm(method, n_images, bench) for method in config.coresets]
        for rival in rivals:
            arms[rival.name] = rival
            regimes[rival.name, regime] = STANDARD
        return [rival.name for rival in rivals]

    for name, condensed in bench.condensed.items():
        arm = arms[name] = condensed_arm(name, condensed, counts[name])
        transform = name_of(condensed.transform, bench.transforms[STANDARD])
        sizes = dict(arm.bytes_of)
        for regime in config.regimes:
            if (budget := sizes.get(regime)) is not None:
                regimes[name, regime] = transform
                found.rivals[name, regime] = coresets(budget, regime)
        if "soft" in config.regimes and "hard" in config.regimes and "soft" in sizes:
            found.of_hard_labels[name] = coresets(sizes["soft"], "hard")
    cells = [
        Cell(arm=arms[name], regime=regime, net=net, transform=transform)
        for ((name, regime), transform), net in product(regimes.items(), config.nets)
    ]
    return arms, cells


def _choose(arm: Arm, bench: Bench, found: Comparison) -> Bench:
    chosen, found.choosing_s[arm.name] = choose(arm.name.rpartition("-")[0], arm.n_images, bench)
    return replace(bench, coresets={**bench.coresets, arm.name: chosen})


def _first_alike(bench: Bench) -> dict[str, str]:
    """Coreset to the first of those that chose the same images in the same order, whose students are its own too."""
    by_choice: dict[tuple[bytes, ...], str] = {}
    return {
        name: by_choice.setdefault(tuple(one.tobytes() for one in chosen), name)
        for name, chosen in bench.coresets.items()
    }


def _try_larger(
    name: str, bench: Bench, found: Comparison, train: Callable[[Bench, Sequence[Cell]], list[Outcome]]
) -> Bench:
    """Larger coresets of the best method, until one is as good as the condensed set on the first net."""
    net = bench.config.nets[0]
    mine = sum(found.accuracy(name, "hard", net))
    best = found.best(found.rivals[name, "hard"], "hard", net)
    method, _, n_images = best.rpartition("-")
    found.larger[name] = []
    for multiple in sorted(bench.config.multiples):
        last = (found.larger[name] or [best])[-1]
        n_larger = min(multiple * int(n_images), len(bench.train))
        arm = coreset_arm(method, n_larger, bench)
        if sum(found.accuracy(last, "hard", net)) >= mine or arm.name == last:
            break
        if (arm.name, "hard", net) not in found.outcomes:
            if arm.name not in bench.coresets:
                bench = _choose(arm, bench, found)
            (outcome,) = train(bench, [Cell(arm=arm, regime="hard", net=net, transform=STANDARD)])
            found.outcomes[arm.name, "hard", net] = outcome
        found.larger[name].append(arm.name)
    return bench
