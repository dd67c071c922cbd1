"""The time of each job of the last `make repro`, beside its share in docs/architecture.md.

    make repro && python -m benchmarks.time_table

Times are those that stages measured themselves (metrics/NAME.run.json), so they are of whichever run wrote the data. A
stage that the table has no job for, or that was not timed, is named; the report times nothing. Exit code 1: all jobs
together took longer than the whole may, unless `--no-bound` says that the machine is shared; 2: nothing was timed.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from datagen.plan.pipeline import Step, read_pipeline

WHOLE_MINUTES = 15
TABLE = Path("docs/architecture.md")
# The start of a row's name in the table, to the stages that count there.
JOBS = {
    "main job": ("prompts", "prompts_heldout", "traces", "verify", "train_lm@student", "evaluate_lm", "report"),
    "language-model students": ("train_lm@distilled",),
    "corpus synthesis": ("narratives", "corpus", "label_quality", "train_encoder", "evaluate_encoder"),
    "images": (
        "images", "images_validation", "images_test", "experts", "condense_images@trajectory_matching",
        "condense_images@difficulty_aligned", "train_image", "evaluate_images",
    ),
    "domain mixes and extraction": ("domains", "domains_held_out", "domain_weights", "mix", "extract", "match"),
    "graphs": (
        "graphs", "graphs_validation", "graphs_test", "condense_graphs@mirage", "train_graph", "evaluate_graphs",
    ),
}  # fmt: skip


def read_shares(text: str) -> dict[str, float]:
    """Job to minutes, of the table under the heading Time."""
    section = text.partition("\n## Time\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| ([^|:]+)[^|]*\| ([\d.]+) \|$", section, re.MULTILINE)
    return {name.strip(): float(minutes) for name, minutes in found}


def minutes_by_job(steps: Sequence[Step], metrics: Path) -> tuple[dict[str, float], list[str]]:
    """What each job took, and the stages whose time was not kept."""
    seconds: dict[str, float] = {}
    untimed: list[str] = []
    for step in steps:
        file = metrics / f"{step.metrics.stem}.run.json" if step.metrics else None
        if file and file.is_file():
            seconds[step.name] = json.loads(file.read_text())["seconds"]
        elif step.metrics:
            untimed.append(step.name)
    by_job = {job: sum(seconds.get(name, 0.0) for name in stages) / 60 for job, stages in JOBS.items()}
    return by_job, untimed


def table_of(minutes: Mapping[str, float], shares: Mapping[str, float]) -> str:
    """A line a job, with a mark where it is over its share."""
    lines = [f"{'job':30}{'minutes':>9}{'share':>8}"]
    for job, took in minutes.items():
        lines.append(f"{job:30}{took:>9.1f}{shares[job]:>8.1f}{'  over' if took > shares[job] else ''}")
    return "\n".join([*lines, f"{'all':30}{sum(minutes.values()):>9.1f}{WHOLE_MINUTES:>8.1f}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-bound", action="store_true", help="exit code 0 however long it took")
    options = parser.parse_args(argv)
    minutes, untimed = minutes_by_job(read_pipeline(Path("dvc.yaml")), Path("metrics"))
    print(table_of(minutes, read_shares(TABLE.read_text())))
    if untimed:
        print(f"not timed: {', '.join(untimed)}")
    if not any(minutes.values()):
        return 2
    return int(sum(minutes.values()) > WHOLE_MINUTES and not options.no_bound)


if __name__ == "__main__":
    raise SystemExit(main())
