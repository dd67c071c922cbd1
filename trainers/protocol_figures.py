"""What the evaluation says: accuracy by arm, how condensed sets stand against coresets, and whether they were worth it.

Source: the figures are those of `trainers.comparison_figures`. Accuracies and their differences are in [0, 1], rounded
to 4 digits, seconds to 3.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from trainers.bootstrap import Interval
from trainers.comparison import Comparison
from trainers.comparison_figures import (
    Cheaper,
    break_even,
    difference,
    hard_label_recovery,
    improvement_over_random,
    mean_interval,
    standing,
)
from trainers.fresh_students import summary
from trainers.protocol import RANDOM, WHOLE, Compared, Outcome

NOISE = 0.2  # of the seconds of training a student, from run to run


def figures(found: Comparison, config: Compared, chance: float, counted: str = "n_images") -> dict[str, Any]:
    """Of all arms; no seconds among them.

    Args:
        found: the comparison; its `measure` names what is scored.
        config: likewise.
        chance: as `standing` takes it.
        counted: what the size of an arm is called.
    """
    by_kind: dict[str, dict[str, Any]] = {"whole": {}, "condensed": {}, "coreset": {}}
    for (name, regime, net), outcome in found.outcomes.items():
        arm = outcome.cell.arm
        fresh = {counted: arm.size, "bytes": dict(arm.bytes_of), "regimes": {}}
        entry = by_kind[arm.kind].setdefault(name, fresh)
        entry["regimes"].setdefault(regime, {})[net] = _scored(found, name, regime, net)
    for name, entry in by_kind["condensed"].items():
        differences: dict[str, dict[str, Interval]] = {}
        for regime, nets in entry["regimes"].items():
            for net, one in nets.items():
                best, interval = _against(found, name, regime, net, found.rivals[name, regime])
                differences.setdefault(net, {})[regime] = interval
                one |= {"best_coreset": best, "over_best_coreset": _rounded(interval)}
                one |= _measures(found, name, regime, net)
                if regime == "soft" and name in found.of_hard_labels:
                    rival, interval = _against(found, name, "soft", net, found.of_hard_labels[name], of="hard")
                    one |= {"best_coreset_of_hard_labels": rival, "over_coreset_of_hard_labels": _rounded(interval)}
        everything = {net: mean_interval(found.by_seed(WHOLE, "hard", net)) for net in config.nets}
        entry["standing"] = {
            net: standing(by_regime, whole=everything[net], chance=chance) for net, by_regime in differences.items()
        }
    return {
        "n_nets": len(config.nets),
        "n_seeds": config.seeds,
        "chance": round(chance, 4),
        "whole": by_kind["whole"][WHOLE],
        "condensed": by_kind["condensed"],
        "coresets": by_kind["coreset"],
    }


def with_seconds(
    stated: Mapping[str, Any],
    found: Comparison,
    config: Compared,
    condensing_s: Mapping[str, float | None],
) -> dict[str, Any]:
    """`figures`, with the seconds of training one student and, for condensed sets, of condensing and their worth.

    Args:
        stated: what `figures` gave, which stays as it is.
        found: the same comparison.
        config: likewise.
        condensing_s: condensed set to the seconds that making it took, None where they are not known.
    """

    def timed(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        regimes = {
            regime: {net: {**one, "seconds": _each(found.outcomes[name, regime, net])} for net, one in nets.items()}
            for regime, nets in entry["regimes"].items()
        }
        return {**entry, "regimes": regimes}

    condensed = {
        name: {
            **timed(name, entry),
            "condensing_seconds": condensing_s[name],
            "worth": worth(found, name, config, condensing_s[name]),
        }
        for name, entry in stated["condensed"].items()
    }
    coresets = {
        name: {**timed(name, entry), "choosing_seconds": round(found.choosing_s[name], 3)}
        for name, entry in stated["coresets"].items()
    }
    return {**stated, "whole": timed(WHOLE, stated["whole"]), "condensed": condensed, "coresets": coresets}


def worth(found: Comparison, name: str, config: Compared, condensing_s: float | None) -> dict[str, Any]:
    """For how many students condensing is cheaper, by the first net and hard labels, or the first regime there is.

    Seconds of students that differ by less than `NOISE` count as equal: no number of students is won from noise.
    Seconds of a student of everything are those of `Config.whole_steps` steps, of any other those of `Steps.n_steps`.

    Returns:
        against_everything: from `n_students` to `n_students_last`, both None for never or where `condensing_s` is, the
        last alone for every number from the first on; and the accuracy that is lost. And against_coreset: the smallest
        coreset that was tried with at least the set's accuracy, None where there was none, and numbers likewise.
        `verdict` says both.
    """
    net = config.nets[0]
    regime = next(one for one in ("hard", *config.regimes) if (name, one) in found.rivals)
    mine, everything = found.outcomes[name, regime, net], found.outcomes[WHOLE, "hard", net]
    scores = found.by_seed(name, regime, net)
    mean = mean_interval(scores).mean
    lost = round(difference(found.by_seed(WHOLE, "hard", net), scores).mean, 4)
    best = found.best(found.rivals[name, regime], regime, net)
    tried = [best, *found.larger.get(name, [])]
    as_good = [one for one in tried if sum(found.by_seed(one, regime, net)) >= sum(scores)]
    coreset = found.outcomes[as_good[0], regime, net] if as_good else None
    each, n_everything, n_coreset = _each(mine), None, None
    if condensing_s is None:
        says = ["not known: nothing says how many seconds condensing took (--run-metrics)"]
    else:
        n_everything = break_even(condensing_s, each, 0.0, _alike(_each(everything), each))
        says = [
            f"against training on everything {_said(n_everything)}, at {found.measure} {mean:.4f}, {lost:+.4f} lost"
        ]
        if as_good[:1] == [best]:
            says.append(f"against coresets never: {best}, of as many bytes, is as good")
        elif coreset:
            n_coreset = break_even(condensing_s, each, found.choosing_s[as_good[0]], _alike(_each(coreset), each))
            says.append(f"against {as_good[0]}, the smallest coreset tried that is as good, {_said(n_coreset)}")
        else:
            says.append(f"no coreset up to {tried[-1]} is as good")
    return {
        "against_everything": {**_numbers(n_everything), f"{found.measure}_lost": lost},
        "against_coreset": {"coreset": as_good[0] if as_good else None, **_numbers(n_coreset)},
        "verdict": "; ".join(says),
    }


def _alike(seconds: float, others: float) -> float:
    """The first, or the second where they differ by no more than a clock does from run to run."""
    return others if abs(seconds - others) <= NOISE * max(seconds, others) else seconds


def plot_rows(stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each arm, regime and net, with mean and interval: what `dvc plots` draws."""
    entries = {WHOLE: stated["whole"], **stated["condensed"], **stated["coresets"]}
    return [
        {"arm": name, "regime": regime, "net": net, "bytes": entry["bytes"][regime]}
        | {key: one["accuracy"][key] for key in ("mean", "low", "high")}
        for name, entry in entries.items()
        for regime, nets in entry["regimes"].items()
        for net, one in nets.items()
    ]  # fmt: skip


def _measures(found: Comparison, name: str, regime: str, net: str) -> dict[str, Any]:
    """Improvement over random in every regime, hard label recovery in that of hard labels."""
    mine = found.by_seed(name, regime, net)
    random = next(one for one in found.rivals[name, regime] if one.rpartition("-")[0] == RANDOM)
    measures = {"over_random": _rounded(improvement_over_random(mine, found.by_seed(random, regime, net)))}
    if regime == "hard":
        measures["hard_label_recovery"] = _rounded(hard_label_recovery(found.by_seed(WHOLE, "hard", net), mine))
    return measures


def _against(
    found: Comparison, name: str, regime: str, net: str, rivals: Sequence[str], of: str | None = None
) -> tuple[str, Interval]:
    """The best rival, with labels of the same regime or `of` another, and what the set is above it."""
    best = found.best(rivals, of or regime, net)
    return best, difference(found.by_seed(name, regime, net), found.by_seed(best, of or regime, net))


def _scored(found: Comparison, name: str, regime: str, net: str) -> dict[str, Any]:
    scored = summary(found.by_seed(name, regime, net))
    return {found.measure: scored, "learning_rate": found.outcomes[name, regime, net].learning_rate}


def _rounded(interval: Interval) -> dict[str, Any]:
    return {name: round(value, 4) for name, value in interval._asdict().items()}


def _each(outcome: Outcome) -> float:
    return round(median(outcome.seconds), 3)


def _numbers(students: Cheaper | None) -> dict[str, int | None]:
    first, last = students or (None, None)
    return {"n_students": first, "n_students_last": last}


def _said(students: Cheaper | None) -> str:
    if students is None:
        return "never"
    return f"from {students.first} students on" if students.last is None else f"up to {students.last} students"
