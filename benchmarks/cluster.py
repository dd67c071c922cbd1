"""Stages on dask.distributed: one worker of one thread, then two, and the same bytes as in one process.

    python -m benchmarks.cluster [--only verify embed] [--rows N] [--repeats N] [--out FILE.json]

verify judges N answers that only Math-Verify can compare; embed puts 4,096 texts of 8 words beside 50 evaluation
items by their embeddings. Each run is a whole process with `DASK_SCHEDULER_ADDRESS=local`, so the start of the workers
and what they import is in its time. One worker and two take turns; `speedup` is the median over turns of each turn's
own ratio, and BAR is the least that is wanted of it, on two cores that nobody else uses.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from datagen.contracts.cluster import ADDRESS, LOCAL
from datagen.contracts.dataset import write_json

BAR = 1.7
TEXTS, ITEMS, WORDS_A_TEXT = 4096, 50, 8


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("verify", "embed"), default=["verify", "embed"])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            to = Path(folder)
            command = verify_command(to, arguments.rows) if name == "verify" else embed_command(to)
            rows.append({"work": name} | compare(Path(folder) / name, command, arguments.repeats))
            print(json.dumps(rows[-1]))
    if arguments.out:
        write_json(arguments.out, {"benchmark": "cluster", "bar": BAR, "cpus": os.cpu_count(), "rows": rows})
    return 0


def compare(folder: Path, command: list[str], repeats: int) -> dict[str, Any]:
    """Seconds of each turn with one worker and with two, and whether the outputs are those of one process."""
    folder.mkdir()
    _run([*command, "--out", str(folder / "alone")], None)
    expected = contents(folder / "alone")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    equal = True
    for turn in range(repeats):
        for n_workers in (1, 2):
            out = folder / f"{turn}-{n_workers}"
            start = time.perf_counter()
            _run([*command, "--out", str(out)], n_workers)
            seconds[n_workers].append(round(time.perf_counter() - start, 2))
            equal &= contents(out) == expected
    return {
        "one_worker_s": seconds[1],
        "two_workers_s": seconds[2],
        "speedup": round(median(one / two for one, two in zip(seconds[1], seconds[2], strict=True)), 3),
        "same_bytes": equal,
    }


def _run(command: list[str], n_workers: int | None) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop(ADDRESS, None)
    if n_workers:
        environment |= {ADDRESS: LOCAL, "DATASTILL_WORKERS": str(n_workers)}
    subprocess.run([sys.executable, "-m", *command], env=environment, check=True, capture_output=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Each file of a dataset."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def verify_command(folder: Path, n_rows: int) -> list[str]:
    """The module and its arguments, but for --out: products and what they are expanded, every third one wrongly."""
    rows = [
        {
            "prompt": f"Expand x(x+{i}).",
            "completion": rf"\boxed{{x^2+{i}x+{int(i % 3 == 0)}}}",
            "reference": f"x(x+{i})",
        }
        for i in range(1, n_rows + 1)
    ]
    return [
        "datagen.stages.verify",
        "--set",
        "method=math_answer",
        "--traces",
        str(_write(folder / "rows.jsonl", rows)),
    ]


def embed_command(folder: Path) -> list[str]:
    """The module and its arguments, but for --out: random texts beside random items."""
    words = random.Random(0)
    texts = [
        {"text": " ".join(f"word{words.randrange(5000)}" for _ in range(WORDS_A_TEXT))} for _ in range(TEXTS + ITEMS)
    ]
    documents, items = _write(folder / "texts.jsonl", texts[ITEMS:]), _write(folder / "items.jsonl", texts[:ITEMS])
    settings = ["method=decontamination", "by=embedding"]
    return ["datagen.stages.filter", "--set", *settings, "--documents", str(documents), "--against", str(items)]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


if __name__ == "__main__":
    raise SystemExit(main())
