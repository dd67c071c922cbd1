"""Time to start a stage that needs no torch, above bare Python plus polars; warm.

    python -m benchmarks.startup [--out FILE.json] [--runs N]

Each case is a process that imports and ends; cases take turns, and each counts its fastest run.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from datagen.contracts.dataset import write_json

BASE = "import polars"
CASES = {
    "python and polars": BASE,
    "prompts": "import datagen.stages.prompts",
    "traces": "import datagen.stages.traces",
    "traces, scripted": "import datagen.stages.traces, datagen.backends.scripted, datagen.traces.n_samples",
    "traces, openai_api": "import datagen.stages.traces, datagen.backends.openai_api, datagen.traces.n_samples",
    "verify": "import datagen.stages.verify",
    "report": "import datagen.stages.report",
}


def seconds(code: str) -> float:
    """Wall time of a process that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args(argv)
    fastest = dict.fromkeys(CASES, float("inf"))
    for _ in range(options.runs):
        for case, code in CASES.items():
            fastest[case] = min(fastest[case], seconds(code))
    base = fastest["python and polars"]
    rows = [
        {"case": case, "seconds": round(found, 3), "above_polars": round(found - base, 3)}
        for case, found in fastest.items()
    ]
    print(f"{'case':24}{'seconds':>12}{'above polars':>16}")
    for row in rows:
        print(f"{row['case']:24}{row['seconds']:>12}{row['above_polars']:>16}")
    if options.out:
        write_json(options.out, {"benchmark": "startup", "cpus": os.cpu_count(), "rows": rows})


if __name__ == "__main__":
    main()
