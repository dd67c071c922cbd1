"""Objectives beside each other: SmolLM2-135M into a quarter of its layers, the same tokens for all, several seeds.

    python -m benchmarks.students_compare --data FOLDER [--seeds 3] [--steps 16] [--out FILE.json] [--kept FOLDER]
    python -m benchmarks.students_compare --data FOLDER --answers teacher
    python -m benchmarks.students_compare --out FILE.json    # trains nothing: the table of what is there

FOLDER holds train.jsonl of GSM8K; of its rows those that are held out are the last. `--answers teacher` keeps the
questions, and the teacher answers them at temperature 1: text of which it is the distribution, where the dataset's own
answers are text that it would seldom write. Students are those that `datastill compare_students` trains. The table
gives nats per token on held-out completions with half the 95 % interval over seeds, the difference to supervised seed
by seed, the share of likeliest tokens that were right, the expected calibration error, CPU seconds and peak memory of
training. `--kept` holds what is done, so that a run that was killed goes on.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.errors import DataError
from datagen.contracts.stage import load_stage
from datagen.contracts.stage import main as run_stage
from trainers.comparison_figures import difference
from trainers.lm_comparison import Outcome, compare, open_bench, parse
from trainers.lm_comparison_figures import BASELINE, costs, figures, table

OBJECTIVES = ["supervised", "forward_kl", "reverse_kl", "jensen_shannon", "taid"]
MODEL = "smollm2-135m-instruct"
MAX_TOKENS = 512


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there, write the JSON after each student, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with GSM8K's train.jsonl; without, nothing is trained")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--layers", type=int, default=8, help="of the student; SmolLM2-135M has 30")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--held-out", type=int, default=32, help="rows")
    parser.add_argument("--answers", choices=("dataset", "teacher"), default="dataset", help="whose are learned")
    parser.add_argument("--answer-tokens", type=int, default=96, help="of one of the teacher's, at most")
    parser.add_argument("--objectives", nargs="+", default=OBJECTIVES)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--n-threads", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(".students_compare"))
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    if options.data is None:
        if options.out is None or not options.out.exists():
            parser.error("--data, or --out with a file that a run wrote")
        print(said([Outcome(**one) for one in json.loads(options.out.read_text())["outcomes"]]))
        return
    section = section_of(options)
    check_kept(options.kept, facts_of(options))
    data, heldout = write_rows(options.data / "train.jsonl", options.kept, options)
    if options.answers == "teacher":
        data, heldout = (answered(path, options) for path in (data, heldout))
    bench = open_bench(parse(section), data, heldout, options.kept)
    outcomes: list[Outcome] = []
    for outcome in compare(bench, options.kept, lambda _: None, lambda _: None):
        outcomes.append(outcome)
        print(json.dumps(asdict(outcome)), flush=True)
        if options.out:
            write_json(options.out, stated(section | {"answers": options.answers}, outcomes))
    print(said(outcomes))


def said(outcomes: Sequence[Outcome]) -> str:
    """The table, and what it shows of the two claims."""
    lines = [table(figures(outcomes), costs(outcomes))]
    for name, one in claims(outcomes).items():
        lines.append(f"{name}: {one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] nats per token")
    return "\n".join(lines)


def claims(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Differences of nats per token, seed by seed, with intervals: below 0 where the first is better.

    Each objective of a teacher is held against learning the tokens, and TAID against each of the others, which it is
    said to be better than (Shing et al. 2025, arXiv:2501.16937). Objectives without all seeds are left out.
    """
    nats: dict[str, list[float]] = {}
    for one in outcomes:
        nats.setdefault(one.objective, []).append(one.nats_per_token)
    most = max(map(len, nats.values()), default=0)
    whole = [name for name, values in nats.items() if len(values) == most > 1]
    distilled = [name for name in whole if name != BASELINE]
    pairs = [(name, BASELINE) for name in distilled if BASELINE in whole]
    pairs += [("taid", name) for name in distilled if "taid" in whole and name != "taid"]
    return {f"{mine} less {other}": difference(nats[mine], nats[other])._asdict() for mine, other in pairs}


def section_of(options: argparse.Namespace) -> dict[str, Any]:
    """Parameters, as compare_students takes them."""
    return {
        "student": MODEL, "student_layers": options.layers, "teacher": MODEL, "teacher_kind": "hidden",
        "teacher_dtype": options.precision,
        "objectives": options.objectives, "seeds": options.seeds, "steps": options.steps,
        "batch_size": options.batch_size, "learning_rate": options.learning_rate, "precision": options.precision,
        "n_threads": options.n_threads, "max_tokens": MAX_TOKENS,
    }  # fmt: skip


def facts_of(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters, and what the rows were."""
    rows = content_hash(options.data / "train.jsonl")
    answers = {"answer_tokens": options.answer_tokens} if options.answers == "teacher" else {}
    return {**section_of(options), "rows": rows, "held_out": options.held_out, **answers}


def check_kept(folder: Path, section: Mapping[str, Any]) -> None:
    """Note whose students `folder` keeps.

    Raises:
        DataError: those of other parameters.
    """
    noted = folder / "section.json"
    if noted.exists() and json.loads(noted.read_text()) != section:
        raise DataError(f"{noted}: students of other parameters are there; name another folder with --kept")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(noted, section)


def write_rows(source: Path, folder: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """GSM8K's rows as prompt and completion: the first, twice as many as a student learns from, and the last ones."""
    lines = source.read_text(encoding="utf-8").splitlines()
    rows = [{"prompt": row["question"], "completion": row["answer"]} for row in map(json.loads, lines)]
    parts = {"train": rows[: 2 * options.steps * options.batch_size], "heldout": rows[-options.held_out :]}
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return folder / "train.jsonl", folder / "heldout.jsonl"


def answered(rows: Path, options: argparse.Namespace) -> Path:
    """The rows' questions with an answer that the teacher gave, one to each: what `datastill traces` wrote."""
    asked = rows.with_name(f"{rows.stem}_questions.jsonl")
    lines = [json.dumps({"prompt": json.loads(line)["prompt"]}) for line in rows.read_text().splitlines()]
    asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = rows.with_name(f"{rows.stem}_answers")
    os.environ.setdefault("DATASTILL_HOME", str(options.kept / "home"))  # its ledger: a killed run asks nothing twice
    params = (
        "backend=local", f"model={MODEL}", f"dtype={options.precision}", "temperature=1.0",
        f"max_new_tokens={options.answer_tokens}",
    )  # fmt: skip
    if code := run_stage(load_stage("traces"), ["--prompts", str(asked), "--out", str(out), "--set", *params]):
        raise SystemExit(code)
    return out


def stated(section: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the JSON holds."""
    return {
        "benchmark": "students_compare",
        "params": section,
        "outcomes": [asdict(one) for one in outcomes],
        "figures": figures(outcomes),
        "costs": costs(outcomes),
        "claims": claims(outcomes),
    }


if __name__ == "__main__":
    main()
