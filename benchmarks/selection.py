"""Do prompts of middle difficulty teach more than as many at random? Students of both, over several seeds.

    python -m benchmarks.selection [--verified DIR] [--prompts DIR] [--seeds N] [--select KEY=VALUE ...] [--set ...]

    by_difficulty  answers that pass, to prompts in the band
    at_random      as many answers that pass, drawn from all prompts; another draw for each seed

Both are made by the select stage from what verify wrote, with several attempts a prompt, and changed by --select. All
else is the same: the seed and the sections train_lm_student (changed by --set) and evaluate_lm of the params file. The
interval is a paired bootstrap over the held-out prompts, of each prompt's mean over the seeds; it does not hold what
another draw of the training prompts would change. DeepDistill (arXiv:2504.17565) selects so, at larger size.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.control_arms import inputs_key, mean_score, points, train_and_evaluate
from datagen.contracts.dataset import iterate, read_manifest, write_json
from datagen.contracts.home import home
from datagen.contracts.records import trace_from_row
from trainers.bootstrap import paired_bootstrap

ARMS = ("by_difficulty", "at_random")


def main() -> None:
    """Select, train and evaluate for every arm and seed, print the table, write the JSON."""
    arguments = _parser().parse_args()
    work = home() / "selection" / inputs_key(arguments, arguments.verified, arguments.prompts)
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(arguments.seeds):
        for arm in ARMS:
            selected = work / f"{arm}-{seed}"
            own = [f"seed={seed}"] if arm == "at_random" else []
            command = ["--verified", arguments.verified, "--out", selected, "--set", f"method={arm}", *own]
            _select([*command, *arguments.select])
            rows = [trace_from_row(row) for row in iterate(selected)]
            sys.stderr.write(f"seed {seed + 1} of {arguments.seeds}: {arm}, {len(rows)} rows\n")
            runs[arm].append(train_and_evaluate(work, arm, rows, seed, arguments))
    results = summarise(runs) | {"rejected": read_manifest(work / "by_difficulty-0")["rejected"]}
    write_json(arguments.out, results)
    sys.stdout.write(table(results))


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean rate of each arm over the seeds with its gain over the model before training, and what lies between them."""
    before = runs["by_difficulty"][0]["scores"]["before"]
    means = {arm: mean_score(run["scores"]["after"] for run in of_arm) for arm, of_arm in runs.items()}
    arms = {
        arm: {
            "rate": sum(means[arm]) / len(before),
            "rate_by_seed": [sum(run["scores"]["after"]) / len(before) for run in of_arm],
            "gain": paired_bootstrap(before, means[arm])._asdict(),
            "rows": [run["train"]["rows"]["out"] for run in of_arm],
            "learned_tokens_an_epoch": [run["train"]["n_completion_tokens"] for run in of_arm],
            "steps": [run["train"]["n_steps"] for run in of_arm],
        }
        for arm, of_arm in runs.items()
    }
    difference = paired_bootstrap(means["at_random"], means["by_difficulty"])._asdict()
    return {
        "n_prompts": len(before),
        "before": sum(before) / len(before),
        "arms": arms,
        "by_difficulty_minus_at_random": difference,
    }


def table(results: dict[str, Any]) -> str:
    """The results in Markdown, rates and differences in points."""
    lines = [
        f"Before training: {100 * results['before']:.1f} % of {results['n_prompts']} held-out prompts verified.",
        "",
        "| arm | rows | learned tokens | steps | verified, mean of seeds | gain (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for name, arm in results["arms"].items():
        n = len(arm["rows"])
        seeds = ", ".join(f"{100 * rate:.1f}" for rate in arm["rate_by_seed"])
        lines.append(
            f"| {name} | {sum(arm['rows']) / n:.0f} | {sum(arm['learned_tokens_an_epoch']) / n:.0f} "
            f"| {sum(arm['steps']) / n:.0f} | {100 * arm['rate']:.1f} ({seeds}) | {points(arm['gain'])} |"
        )
    difference = points(results["by_difficulty_minus_at_random"])
    return "\n".join([*lines, "", f"by_difficulty minus at_random, 95 % interval: {difference}"]) + "\n"


def _select(arguments: list[object]) -> None:
    command = [sys.executable, "-m", "datagen.stages.select", *map(str, arguments)]
    subprocess.run(command, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--verified", type=Path, default=Path("data/verified"))
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts_heldout"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--select", nargs="+", action="extend", default=[], help="parameters of select, for both arms")
    parser.add_argument("--set", nargs="+", action="extend", default=[], help="parameters of train_lm, for both arms")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/selection.json"))
    return parser


if __name__ == "__main__":
    main()
