"""What a push costs: peak memory by the number of rows, and bytes sent once a hundredth more rows are there.

    python -m benchmarks.publish [--out FILE.json] [--folder DIR] [--rows N ...] [--growing N ...] [--gates] [--xet]

The Hub is the tests' server on loopback, in this process; it counts what it receives. Each push is a process of its
own, whose memory is the kernel's maximum resident set. Without --gates it lays out the folder and pushes it; with it,
it is the whole command, gates and card among it. With --xet files go in chunks, by Xet, else each as a whole. A row is
a trace with a prompt of some words and an answer of some 300 letters, no two alike.

`sent` is all that reaches the server in bodies, files and commits alike, after a first push of the same rows: at the
end, in one place in the middle, and at places of their own all over, which no cut into files can serve.
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

import polars as pl

from datagen.contracts.dataset import BLOCK, content_hash, write_json
from datagen.contracts.records import Rejection, Trace
from tests.hub_server import HubServer, running
from tests.hub_xet import XetStorage

REPO = "org/benchmark"
_WORDS = 40  # of 8 letters in an answer
CHILD = """
import sys, tempfile
from pathlib import Path
from datagen.publish.folder import lay_out
from datagen.publish.upload import look, push
path, repo = Path(sys.argv[1]), sys.argv[2]
with tempfile.TemporaryDirectory(dir=path.parent) as folder:
    remote = look(repo, "dataset")
    print(push(lay_out({"train": path}, Path(folder), remote.layout), repo, remote))
"""


def write_traces(path: Path, ids: Sequence[int]) -> Path:
    """A dataset of traces with these numbers, as the stage writes it, without a Python object a row."""
    path.mkdir(parents=True)
    for start in range(0, len(ids), BLOCK):
        number = pl.Series("number", ids[start : start + BLOCK], dtype=pl.UInt64)
        words = [_word(number * 64 + i).alias(f"w{i}") for i in range(_WORDS)]
        frame = pl.DataFrame([number, *words]).select(
            id=pl.format("p{}#0.{}", "number", "w0"),
            prompt_id=pl.format("p{}", "number"),
            sample_index=pl.lit(0),
            messages=pl.concat_list(
                pl.struct(
                    role=pl.lit("user"),
                    content=pl.format("Write {} and {}.", "w1", "w2"),
                    name=None,
                    tool_calls=None,
                    tool_call_id=None,
                )
            ),
            family=pl.lit("numbers"),
            completion=pl.concat_str([f"w{i}" for i in range(_WORDS)], separator=" "),
            finish_reason=pl.lit("stop"),
            teacher=pl.lit("benchmark"),
            n_completion_tokens=pl.lit(_WORDS),
        )
        missing = [pl.lit(None).alias(name) for name in Trace.SCHEMA if name not in frame.columns]
        frame = frame.with_columns(missing).select(pl.col(name).cast(kind) for name, kind in Trace.SCHEMA.items())
        frame.write_parquet(path / f"part-{start // BLOCK:05d}.parquet", compression="zstd", row_group_size=BLOCK)
    pl.DataFrame([], schema=Rejection.SCHEMA).write_parquet(path / "rejections.parquet")
    files = {file.name: content_hash(file) for file in sorted(path.iterdir())}
    licences = {"rows": {"kind": "data", "licence": "cc0-1.0"}, "benchmark": {"kind": "teacher", "licence": "mit"}}
    manifest = {
        "format": "datastill", "version": 1, "stage": "traces", "method": "n_samples", "record": "Trace", "params": {},
        "schema": {name: str(dtype) for name, dtype in Trace.SCHEMA.items()}, "inputs": {}, "licences": licences,
        "rows": {"in": len(ids), "out": len(ids), "rejected": 0}, "rejected": {}, "files": files,
    }  # fmt: skip
    write_json(path / "manifest.json", manifest)
    return path


def _word(number: pl.Series) -> pl.Series:
    """Eight letters by a number's hash; digits would be card numbers now and then."""
    digits = number.hash(seed=7).cast(pl.String).str.slice(0, 8)
    return digits.str.replace_many(list("0123456789"), list("abcdefghij"))


def publish(path: Path, hub: HubServer, repo: str, *, gates: bool) -> dict[str, Any]:
    """One push in a process of its own."""
    whole = ["-m", "datagen.cli", "publish", str(path), "--repo", repo, "--allow", "decontamination", "lock"]
    keys = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_writes",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(path.parent / "home"),
    }
    process = subprocess.Popen(
        [sys.executable, *(whole if gates else ["-c", CHILD, str(path), repo])],
        env=os.environ | keys | {"HF_HUB_DISABLE_XET": "0" if hub.xet else "1"},
        stdout=subprocess.DEVNULL,
    )
    start = time.monotonic()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the push of {path.name} ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_s": round(time.monotonic() - start, 1),
    }


def measure_memory(folder: Path, n_rows: int, *, gates: bool, xet: bool) -> dict[str, Any]:
    """One push of `n_rows`."""
    path = write_traces(folder / "data", range(n_rows))
    with running() as hub:
        hub.xet = XetStorage() if xet else None
        cost = publish(path, hub, REPO, gates=gates)
        n_files = sum(name.startswith("data/") for name in hub.files(REPO))
        return {"rows": n_rows, "files": n_files, "sent_mb": round(sum(hub.n_bytes.values()) / 1e6, 1)} | cost


def measure_growth(folder: Path, n_rows: int, *, gates: bool, xet: bool) -> dict[str, Any]:
    """A push of `n_rows`, then of a hundredth more, for each place where they may come."""
    n_new = n_rows // 100
    new = list(range(n_rows, n_rows + n_new))
    old = list(range(n_rows))
    spread = [one for i, row in enumerate(old) for one in ((new[i // 100], row) if i % 100 == 0 else (row,))]
    grown = {"end": old + new, "middle": old[: n_rows // 3] + new + old[n_rows // 3 :], "all over": spread}
    before = write_traces(folder / "before", old)
    found: dict[str, Any] = {"rows": n_rows}
    for place, ids in grown.items():
        with running() as hub:
            hub.xet = XetStorage() if xet else None
            publish(before, hub, REPO, gates=gates)
            first = hub.n_bytes.total()
            publish(write_traces(folder / place.replace(" ", "-"), ids), hub, REPO, gates=gates)
            found |= {
                "first_mb": round(first / 1e6, 2),
                f"sent, {place} %": round(100 * (hub.n_bytes.total() - first) / first, 2),
            }
            publish(folder / place.replace(" ", "-"), hub, REPO, gates=gates)
            found["commits"] = len(hub.repositories["dataset", REPO].commits)
    return found


def _show(rows: Sequence[dict[str, Any]]) -> None:
    print("".join(f"{column:>18}" for column in rows[0]))
    for row in rows:
        print("".join(f"{row[column]:>18,}" for column in rows[0]), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file; finished parts of it are kept")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to use (default: here)")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--growing", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--gates", action="store_true", help="the whole command")
    parser.add_argument("--xet", action="store_true", help="by chunks")
    options = parser.parse_args(argv)
    facts = json.loads(options.out.read_text()) if options.out and options.out.is_file() else {}
    parts = [("memory", measure_memory, options.rows), ("growth", measure_growth, options.growing)]
    for name, measure, sizes in parts:
        name += ", with gates" * options.gates + ", by Xet" * options.xet
        for n_rows in sizes:
            held = facts.setdefault(name, [])
            if not any(row["rows"] == n_rows for row in held):
                with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as folder:
                    held.append(measure(Path(folder), n_rows, gates=options.gates, xet=options.xet))
                if options.out:
                    write_json(options.out, {"benchmark": "publish", "cpus": os.cpu_count()} | facts)
        if facts.get(name):
            print(name)
            _show(facts[name])


if __name__ == "__main__":
    main()
