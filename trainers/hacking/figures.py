"""What a run of teacher hacking says: where the golden curve turned, and whether the detector saw it.

Tiapkin et al. On Teacher Hacking in Language Model Distillation. ICML 2025. arXiv:2502.02671. Where the paper is
silent: a student hacked where the golden distance ends 20 % or more above its lowest, which lies strictly inside, while
the proxy that is trained on fell.
"""

from collections.abc import Sequence
from typing import Any

from trainers.fresh_students import summary
from trainers.hacking.departure import find_departure
from trainers.hacking.tabular import Point

RISE = 0.2


def of_run(points: Sequence[Point], threshold: float) -> dict[str, Any]:
    """Of one seed: distances in nats per token, rises as parts of the lowest, steps; the detector saw proxies alone."""
    golden = [point.golden for point in points]
    lowest = golden.index(min(golden))
    sign = find_departure([point.step for point in points[1:]], [point.proxy for point in points[1:]], threshold)
    stopped = next(point for point in points if point.step == sign.lowest)
    rise = golden[-1] / golden[lowest] - 1
    falls = points[-1].train_proxy < points[lowest].train_proxy
    return {
        "golden_first": golden[0],
        "golden_lowest": golden[lowest],
        "golden_lowest_step": points[lowest].step,
        "golden_end": golden[-1],
        "golden_rise": rise,
        "train_proxy_at_lowest": points[lowest].train_proxy,
        "train_proxy_end": points[-1].train_proxy,
        "proxy_lowest": stopped.proxy,
        "proxy_end": points[-1].proxy,
        "hacked": rise >= RISE and 0 < lowest < len(points) - 1 and falls,
        "departure_excess": sign.excess,
        "departed": sign.fired,
        "stop_step": sign.lowest,
        "golden_at_stop": stopped.golden,
        "law": sign.law._asdict(),
    }


def of_runs(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all seeds: means with t-intervals, and how many hacked and how many the detector says it of."""
    names = ("golden_lowest", "golden_end", "golden_rise", "train_proxy_end", "departure_excess", "golden_at_stop")
    counts = {name: sum(run[name] for run in runs) for name in ("hacked", "departed")}
    return {"n_seeds": len(runs), **counts, **{name: summary([run[name] for run in runs]) for name in names}}


def plot_rows(curves: Sequence[Sequence[Point]]) -> list[dict[str, Any]]:
    """A row a step, each distance the mean over seeds: what `dvc plots` draws."""
    names = ("train_proxy", "proxy", "golden")
    return [
        {"step": at[0].step} | {name: sum(getattr(one, name) for one in at) / len(at) for name in names}
        for at in zip(*curves, strict=True)
    ]
