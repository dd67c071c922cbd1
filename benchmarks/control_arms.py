"""Is it verifying that helps? Students of four training sets from the same traces, over several seeds.

    python -m benchmarks.control_arms [--traces DIR] [--verified DIR] [--prompts DIR] [--seeds N] [--set KEY=VALUE ...]

    verified                  the traces that passed
    equal_training_tokens     traces drawn at random, passed or not, of as many learned tokens as whole rows allow
    equal_teacher_tokens      every trace that the teacher was paid for; without verifying, none would be dropped
    all_answers               every answer to each prompt that has one that passed: prompts filtered, answers not

All else is the same: the seed and the sections train_lm_student (changed by --set) and evaluate_lm of the params file.
The last two arms alone are not cut by max_rows_per_prompt; in every arm equal completions of a prompt are learned once.
Every run is the stages' own; one that is done is not repeated, one that was killed goes on. `--set n_threads=1` bounds
the threads of training, `$OMP_NUM_THREADS` those of answering.

Intervals are paired bootstraps over the held-out prompts, of each prompt's mean over the seeds; a missing answer counts
as not verified. OpenThoughts (arXiv:2506.04178) found no gain from filtering answers.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import end_tokens
from datagen.contracts.checkpoint import checkpoint_key
from datagen.contracts.dataset import DatasetWriter, content_hash, iterate, write_json
from datagen.contracts.home import home
from datagen.contracts.params import load_file, parse_assignments
from datagen.contracts.records import Trace, trace_from_row
from datagen.contracts.seeding import derive_seed
from trainers.bootstrap import paired_bootstrap
from trainers.lm_rows import Bounds, select
from trainers.lm_students import STAGE, Config, parse
from trainers.teachers._models import context_of

ARMS = ("verified", "equal_training_tokens", "equal_teacher_tokens", "all_answers")
UNCAPPED = ("equal_teacher_tokens", "all_answers")


def main() -> None:
    """Run every arm and seed, print the table, write the JSON."""
    arguments = _parser().parse_args()
    traces = [trace_from_row(row) for row in iterate(arguments.traces)]
    kept = [trace_from_row(row) for row in iterate(arguments.verified)]
    section = load_file(arguments.params).get("train_lm_student", {}) | parse_assignments(arguments.set)
    config = parse(section)[Config]
    work = home() / "control_arms" / inputs_key(arguments, arguments.traces, arguments.verified, arguments.prompts)
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(arguments.seeds):
        for arm in ARMS:
            if arm == "equal_training_tokens":
                rows = draw(traces, runs["verified"][seed]["train"]["n_completion_tokens"], seed, config)
            else:
                rows = choose(arm, traces, kept)
            sys.stderr.write(f"seed {seed + 1} of {arguments.seeds}: {arm}, {len(rows)} rows\n")
            runs[arm].append(train_and_evaluate(work, arm, rows, seed, arguments))
    results = summarise(runs)
    write_json(arguments.out, results)
    sys.stdout.write(table(results))


def choose(arm: str, traces: Sequence[Trace], kept: Sequence[Trace]) -> list[Trace]:
    """The training rows of an arm that draws none at random."""
    if arm == "verified":
        return list(kept)
    if arm == "equal_teacher_tokens":
        return list(traces)
    prompts = {trace.prompt.id for trace in kept}
    return [trace for trace in traces if trace.prompt.id in prompts]


def draw(traces: Sequence[Trace], n_tokens: int, seed: int, config: Config) -> list[Trace]:
    """Traces at random, in their own order, of at most `n_tokens` learned tokens and as many of them as rows fit in."""
    shuffled = random.Random(derive_seed(seed, "equal_training_tokens")).sample(traces, len(traces))
    chosen: set[str] = set()
    for trace, n_learned in _used(shuffled, config):
        if n_learned <= n_tokens:
            n_tokens -= n_learned
            chosen.add(trace.id)
    return [trace for trace in traces if trace.id in chosen]


def _used(traces: Sequence[Trace], config: Config) -> Iterator[tuple[Trace, int]]:
    """The traces that train_lm takes of these, cap and equal completions counted in this order, and learned tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = resolve_model(config.student)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
    network: Any = AutoModelForCausalLM.from_pretrained(base.folder)
    bounds = Bounds(config.max_tokens, context_of(network.config), config.max_rows_per_prompt)
    rows, _ = select(traces, bounds, tokenizer, end_tokens(network, tokenizer), stage=STAGE)
    for row in rows:
        yield row.trace, row.example.n_completion_tokens


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean rate of each arm over the seeds; its difference to the model before training, and to the arm `verified`."""
    before = runs["verified"][0]["scores"]["before"]
    means = {arm: mean_score(run["scores"]["after"] for run in of_arm) for arm, of_arm in runs.items()}
    arms: dict[str, Any] = {}
    for arm, of_arm in runs.items():
        arms[arm] = {
            "rate": sum(means[arm]) / len(means[arm]),
            "rate_by_seed": [sum(run["scores"]["after"]) / len(before) for run in of_arm],
            "gain": paired_bootstrap(before, means[arm])._asdict(),
            "minus_verified": paired_bootstrap(means["verified"], means[arm])._asdict(),
            "rows": [run["train"]["rows"]["out"] for run in of_arm],
            "learned_tokens_an_epoch": [run["train"]["n_completion_tokens"] for run in of_arm],
            "steps": [run["train"]["n_steps"] for run in of_arm],
        }
    return {"n_prompts": len(before), "before": sum(before) / len(before), "arms": arms}


def table(results: dict[str, Any]) -> str:
    """The results in Markdown, rates and differences in points."""
    lines = [
        f"Before training: {100 * results['before']:.1f} % of {results['n_prompts']} held-out prompts verified.",
        "",
        "| arm | rows | learned tokens | steps | verified, mean of seeds | gain (95 %) | minus `verified` (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arm in results["arms"].items():
        n = len(arm["rows"])
        seeds = ", ".join(f"{100 * rate:.1f}" for rate in arm["rate_by_seed"])
        lines.append(
            f"| {name} | {sum(arm['rows']) / n:.0f} | {sum(arm['learned_tokens_an_epoch']) / n:.0f} "
            f"| {sum(arm['steps']) / n:.0f} | {100 * arm['rate']:.1f} ({seeds}) "
            f"| {points(arm['gain'])} | {points(arm['minus_verified'])} |"
        )
    return "\n".join(lines) + "\n"


def train_and_evaluate(
    work: Path, arm: str, rows: Sequence[Trace], seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Train and evaluate one student, unless that is done for these very rows; the student itself is not kept."""
    settings = [*arguments.set, *(["max_rows_per_prompt=1000000"] if arm in UNCAPPED else []), f"seed={seed}"]
    key = checkpoint_key({"rows": [row.id for row in rows], "set": settings})[:16]
    folder = work / f"{arm}-{seed}-{key}"
    result = folder / "result.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with DatasetWriter(folder / "traces", Trace, {"stage": "control_arms"}) as writer:
            for row in rows:
                writer.read()
                writer.write(row)
        trained = ["--data", folder / "traces", "--out", folder / "student", "--metrics", folder / "train.json"]
        if not (folder / "train.json").exists():  # written last, so the student is there
            _stage("train_lm", arguments.params, ["--section", "train_lm_student", *trained, "--set", *settings])
        answered = ["--data", arguments.prompts, "--out", folder / "evaluation"]
        _stage("evaluate_lm", arguments.params, ["--model", folder / "student", *answered])
        train = json.loads((folder / "train.json").read_text())
        write_json(result, {"train": train, "scores": _scores(folder / "evaluation", arguments.prompts)})
        shutil.rmtree(folder / "student")
    return json.loads(result.read_text())


def _stage(name: str, params: Path, more: Sequence[object]) -> None:
    command = [sys.executable, "-m", f"trainers.stages.{name}", "--params", str(params), *map(str, more)]
    subprocess.run(command, check=True)


def _scores(evaluation: Path, prompts: Path) -> dict[str, list[float]]:
    """1 or 0 for each prompt, in the prompts' order, before and after; 0 where there is no answer."""
    verdicts = pl.read_parquet(evaluation / "verdicts.parquet").filter(status="pass").select("id")
    rows = pl.read_parquet(evaluation / "part-*.parquet").join(verdicts, on="id")
    passed = set(rows.select("prompt_id", "teacher").iter_rows())
    ids = [row["id"] for row in iterate(prompts)]
    return {who: [float((id, who) in passed) for id in ids] for who in ("before", "after")}


def mean_score(scores: Iterable[Sequence[float]]) -> list[float]:
    """Of each prompt, over the runs."""
    return [sum(column) / len(column) for column in zip(*scores, strict=True)]


def points(interval: dict[str, float]) -> str:
    """A difference with its interval, in points."""
    return f"{100 * interval['mean']:+.1f} ({100 * interval['low']:+.1f} to {100 * interval['high']:+.1f})"


def inputs_key(arguments: argparse.Namespace, *inputs: Path) -> str:
    """Of what the results depend on, so that other inputs or params start anew."""
    params = load_file(arguments.params)
    sections = {name: params.get(name, {}) for name in ("train_lm_student", "evaluate_lm")}
    hashes = [content_hash(path) for path in inputs]
    return checkpoint_key({"sections": sections, "set": arguments.set, "inputs": hashes})[:16]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--traces", type=Path, default=Path("data/traces"))
    parser.add_argument("--verified", type=Path, default=Path("data/verified"))
    parser.add_argument("--prompts", type=Path, default=Path("data/prompts_heldout"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+", action="extend", default=[], help="parameters of train_lm, for all arms")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/control_arms.json"))
    return parser


if __name__ == "__main__":
    main()
