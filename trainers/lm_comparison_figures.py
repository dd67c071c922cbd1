"""What a comparison of objectives says: held-out loss, calibration and verified rate, with intervals over seeds.

Student. The Probable Error of a Mean. Biometrika 6(1), 1908: intervals are Student's t over seeds, and differences are
taken seed by seed. They say what another order of the rows may give, not what other held-out rows may.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from trainers.comparison_figures import difference
from trainers.fresh_students import summary
from trainers.lm_comparison import START, Outcome

BASELINE = "supervised"
MEASURES = ("nats_per_token", "calibration_error", "accuracy", "verified_rate")
COSTS = ("seconds", "cpu_s", "peak_bytes")


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of each objective, in order; nothing of time or memory.

    Returns:
        Objective to n_seeds, n_tokens_learned (of one student), each measure that all students have with its mean, ends
        of its interval and values by seed; where `supervised` is there with two seeds or more `over_supervised`, the
        difference of nats per token with its interval, and `apart`, whether the two intervals have no number in common.
    """
    by_name = _by_name(outcomes)
    stated: dict[str, Any] = {}
    for name, ones in by_name.items():
        entry: dict[str, Any] = {
            "n_seeds": len(ones),
            "n_tokens_learned": round(mean(o.n_tokens_learned for o in ones)),
        }
        for measure in MEASURES:
            values = [value for one in ones if (value := getattr(one, measure)) is not None]
            if len(values) == len(ones):
                entry[measure] = summary(values)
        stated[name] = entry
    base = by_name.get(BASELINE, [])
    for name, ones in by_name.items():
        if name not in (BASELINE, START) and len(ones) == len(base) > 1:
            more = difference([o.nats_per_token for o in ones], [o.nats_per_token for o in base])
            mine, theirs = stated[name]["nats_per_token"], stated[BASELINE]["nats_per_token"]
            stated[name] |= {
                "over_supervised": {key: round(value, 4) for key, value in more._asdict().items()},
                "apart": mine["high"] < theirs["low"] or theirs["high"] < mine["low"],
            }
    return stated


def costs(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of each objective the mean seconds, CPU seconds and peak memory of training a student."""
    return {
        name: {cost: round(mean(getattr(one, cost) for one in ones), 3) for cost in COSTS}
        for name, ones in _by_name(outcomes).items()
        if name != START
    }


def plot_rows(stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each objective, with mean and interval of its nats per token: what `dvc plots` draws."""
    return [
        {"objective": name}
        | {key: one["nats_per_token"].get(key, one["nats_per_token"]["mean"]) for key in ("mean", "low", "high")}
        for name, one in stated.items()
    ]


def table(stated: Mapping[str, Any], spent: Mapping[str, Any]) -> str:
    """Markdown, a line for each objective; an interval is given as half its width."""
    lines = [
        "| objective | nats per token | less supervised | right | calibration error | verified | CPU s | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in stated.items():
        cells = [_cell(one[measure]) if measure in one else "" for measure in MEASURES]
        nats, calibration, right, verified = cells
        less = _cell(one["over_supervised"]) if "over_supervised" in one else ""
        cost = spent.get(name)
        cpu, peak = (f"{cost['cpu_s']:.0f}", f"{cost['peak_bytes'] / 1e6:.0f}") if cost else ("", "")
        lines.append(f"| {name} | {nats} | {less} | {right} | {calibration} | {verified} | {cpu} | {peak} |")
    return "\n".join(lines)


def _by_name(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.objective, []).append(outcome)
    return by_name


def _cell(one: Mapping[str, Any]) -> str:
    half = f" ± {one['high'] - one['mean']:.4f}" if "high" in one else ""
    return f"{one['mean']:.4f}{half}"
