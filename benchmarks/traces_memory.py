"""Peak memory of the traces stage by the number of prompts, on the scripted backend.

    python -m benchmarks.traces_memory [--out FILE.json] [--folder DIR] [--prompts N ...] [--set KEY=VALUE ...]

Each case is `python -m datagen.stages.traces` in a process of its own, with 512 requests in flight and an empty ledger.
Memory is the kernel's maximum resident set of that process. `--set` gives the stage further parameters, such as
`method=until_verified verifier=math_answer "answers=[7, 8]"`: the reference of every prompt is 7.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import write_json


def measure(folder: Path, n_prompts: int, settings: Sequence[str]) -> dict[str, Any]:
    """One run of the stage."""
    prompts = folder / "prompts.jsonl"
    with prompts.open("w") as file:
        for i in range(n_prompts):
            row = {"id": f"p{i}", "prompt": f"Write one sentence about topic {i}.", "reference": "7"}
            file.write(json.dumps(row) + "\n")
    command = f"{sys.executable} -m datagen.stages.traces --concurrency 512 --set backend=scripted".split()
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, *settings, "--prompts", str(prompts), "--out", str(folder / "traces")],
        env=os.environ | {"DATASTILL_HOME": str(folder / "home")},
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status:
        raise SystemExit(f"traces ended with {os.waitstatus_to_exitcode(status)} on {n_prompts} prompts")
    return {
        "prompts": n_prompts,
        "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
        "seconds": round(seconds, 1),
        "prompts_per_s": round(n_prompts / seconds),
        "cpu_us_per_prompt": round(1e6 * (usage.ru_utime + usage.ru_stime) / n_prompts),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to use (default: here)")
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--set", nargs="+", default=[], help="further parameters of the stage", metavar="KEY=VALUE")
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for n_prompts in options.prompts:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as folder:
            rows.append(measure(Path(folder), n_prompts, options.set))
        rows[-1]["ratio"] = round(rows[-1]["peak_memory_mb"] / rows[0]["peak_memory_mb"], 2)
    print("".join(f"{column:>20}" for column in rows[0]))
    for row in rows:
        print("".join(f"{cell:>20,}" for cell in row.values()))
    if options.out:
        facts = {"benchmark": "traces_memory", "cpus": os.cpu_count(), "set": options.set}
        write_json(options.out, facts | {"rows": rows})


if __name__ == "__main__":
    main()
