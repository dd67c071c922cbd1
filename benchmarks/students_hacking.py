"""Teacher hacking in a tabular world: who turns away from the oracle, what prevents it, and who sees it without one.

    python -m benchmarks.students_hacking [--seeds 5] [--out FILE.json]
    python -m benchmarks.students_hacking --calibrate    # between which ends the detector's threshold must be

Runs are those of `datastill teacher_hacking` with the same parameters. The table gives the golden distance in nats per
token at its lowest and at the end, its rise in percent with half its 95 % interval over seeds, how many seeds hacked,
the held-out proxy's excess over its power law, in how many seeds the detector fired, and the golden distance where it
would stop. `--calibrate` takes seeds that the table does not.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import write_json
from datagen.contracts.seeding import derive_seed
from trainers.hacking.figures import of_run, of_runs
from trainers.hacking.setting import THRESHOLD, Config
from trainers.hacking.tabular import curve

SETTINGS: Mapping[str, dict[str, Any]] = {
    "20 prompts": {},
    "20 prompts, 10 responses each": {"responses_per_prompt": 10},
    "20 prompts, fresh responses": {"fresh": "responses"},
    "1000 prompts": {"n_prompts": 1000},
    "200 fresh prompts a step": {"n_prompts": 200, "fresh": "prompts"},
}
TURNS, STAYS = ("20 prompts",), ("1000 prompts", "200 fresh prompts a step")  # what the detector must tell apart
HEAD = (
    "| setting | golden lowest | end | rise, % | hacked | excess | fired | golden where stopped |\n"
    "|---|---|---|---|---|---|---|---|"
)
CALIBRATION = 1000  # added to the number of a seed


def main(argv: Sequence[str] | None = None) -> None:
    """Run every setting, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    if options.calibrate:
        print(calibrate(options.seeds))
        return
    print(HEAD)
    settings: dict[str, Any] = {}
    for name, values in SETTINGS.items():
        start = time.process_time()
        runs = run(values, range(options.seeds))
        settings[name] = {"params": values, **of_runs(runs), "cpu_s": round(time.process_time() - start, 1)}
        print(row(name, settings[name]), flush=True)
    if options.out:
        write_json(options.out, {"benchmark": "students_hacking", "threshold": THRESHOLD, "settings": settings})


def run(values: Mapping[str, Any], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Each seed's figures, as the stage has them."""
    config = Config.model_validate(values)
    return [of_run(curve(config, derive_seed(config.seed, "world", i)), config.threshold) for i in seeds]


def calibrate(n_seeds: int) -> str:
    """Ends of the excess: the highest of runs that do not hack, the lowest of those that do."""
    seeds = range(CALIBRATION, CALIBRATION + n_seeds)
    excess = {
        name: [one["departure_excess"] for one in run(SETTINGS[name], seeds)] for name in (*TURNS, *STAYS)
    }  # fmt: skip
    low, high = max(max(excess[name]) for name in STAYS), min(min(excess[name]) for name in TURNS)
    return f"{n_seeds} seeds: without hacking at most {low:.3f}, with it at least {high:.3f}; THRESHOLD is {THRESHOLD}"


def row(name: str, one: Mapping[str, Any]) -> str:
    """A line of the table."""
    rise, excess = one["golden_rise"], one["departure_excess"]
    half = f" ± {100 * (rise['high'] - rise['mean']):.1f}" if "high" in rise else ""
    return (
        f"| {name} | {one['golden_lowest']['mean']:.3f} | {one['golden_end']['mean']:.3f} "
        f"| {100 * rise['mean']:.1f}{half} | {one['hacked']} of {one['n_seeds']} | {excess['mean']:.2f} "
        f"| {one['departed']} of {one['n_seeds']} | {one['golden_at_stop']['mean']:.3f} |"
    )


if __name__ == "__main__":
    main()
