"""Time of `make repro`, stage by stage, and of a second run, in which nothing may run.

    python -m benchmarks.pipeline [--out FILE.json]

The stages' times are those that the run which wrote the data measured (metrics/NAME.run.json); the report measures
nothing and is left out. The promise: the first run in 15 minutes, the second in 10 seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from datagen.contracts.dataset import write_json


def second_run() -> float:
    """Seconds of `dvc repro` where all is up to date."""
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    if "Running stage" in process.stdout:
        raise SystemExit(f"a second run ran a stage:\n{process.stdout}")
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    facts = {
        file.name.removesuffix(".run.json"): json.loads(file.read_text()) for file in Path("metrics").glob("*.run.json")
    }
    rows = [
        {"stage": stage, "seconds": run["seconds"], "peak_memory_mb": round(run["peak_memory_bytes"] / 2**20)}
        for stage, run in sorted(facts.items())
    ]
    first, second = sum(row["seconds"] for row in rows), second_run()
    print(f"{'stage':20}{'seconds':>12}{'peak MB':>12}")
    for row in rows:
        print(f"{row['stage']:20}{row['seconds']:>12.1f}{row['peak_memory_mb']:>12}")
    print(f"{'all of them':20}{first:>12.1f}\n{'second run':20}{second:>12.1f}")
    if options.out:
        result = {
            "benchmark": "pipeline",
            "cpus": os.cpu_count(),
            "first_s": round(first, 1),
            "second_s": round(second, 1),
        }
        write_json(options.out, {**result, "rows": rows})


if __name__ == "__main__":
    main()
