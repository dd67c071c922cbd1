"""Seconds and memory of `datastill why` and `datastill lineage` over millions of rows.

    python -m benchmarks.lineage [--rows N] [--repeats N] [--work FOLDER] [--out FILE.json]

FOLDER gets a made-up pipeline as the stages write it: prompts, N traces of them (four attempts each), what verify kept
of them and what it dropped, and what filter kept of that; the same shards, row groups and side tables. Each command is
a process whose start counts; each counts its median run. It is the second of two runs or later that counts, so the
files are in the page cache.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datagen.contracts.dataset import BLOCK, FORMAT_VERSION, content_hash, write_json
from datagen.contracts.records import Prompt, Rejection, Trace, Verdict

N_ATTEMPTS = 4
WORDS = 60  # of an answer

# A process counts the memory of the one that forked it as its own, so a small one starts the command.
WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open(sys.argv[1], "w").write(f"{code} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
"""


def main() -> None:
    """Write the pipeline, run the commands, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where the data go and stay; else they are removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lineage.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="datastill-lineage-") as folder:
        work = arguments.work or Path(folder)
        data = work / "data"
        if not (data / "filtered").exists():
            write_pipeline(data, arguments.rows // N_ATTEMPTS)
        results = {
            "rows": count_rows(data),
            "bytes": sum(file.stat().st_size for file in data.rglob("*.parquet")),
            "commands": measure(data, arguments.repeats),
        }
    write_json(arguments.out, results)
    sys.stdout.write(table(results))


def measure(data: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Name of a command to median seconds, and peak memory."""
    rows = pl.scan_parquet(data / "rejected_ids.parquet").collect()["id"]
    trace = rows[len(rows) // 2]
    prompt = trace.partition("#")[0]
    here = ["--data", str(data), "--models", str(data / "none")]
    commands = {
        "why PROMPT": ["why", prompt, *here],
        "why TRACE": ["why", trace, *here],
        "why START (12 of 16 digits)": ["why", prompt[:12], *here],
        "why of an unknown id": ["why", "nobody-has-this", *here],
        "lineage": ["lineage", str(data / "filtered"), *here],
    }
    expected = {"why of an unknown id": 3}
    return {name: run(command, repeats, expected.get(name, 0)) for name, command in commands.items()}


def run(command: Sequence[str], repeats: int, expected: int) -> dict[str, float]:
    """Median seconds after one run that does not count, and the largest peak."""
    seconds: list[float] = []
    peaks: list[int] = []
    with tempfile.NamedTemporaryFile("r") as report:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            datastill = [sys.executable, "-m", "datagen.cli", *command]
            subprocess.run([sys.executable, "-c", WATCH, report.name, *datastill], check=True)
            seconds.append(time.perf_counter() - start)
            code, peak = map(int, Path(report.name).read_text().split())
            if code != expected:
                raise SystemExit(f"datastill {' '.join(command)}: exit code {code}, expected {expected}")
            peaks.append(peak * 1024)
    return {"seconds": round(statistics.median(seconds[1:]), 2), "peak_bytes": max(peaks)}


def write_pipeline(data: Path, n_prompts: int) -> None:
    """Dataset directories `prompts`, `traces`, `verified` and `filtered`, as the stages would write them."""
    shutil.rmtree(data, ignore_errors=True)
    words = pl.Series([f"word{i}" for i in range(4096)])
    writers = {name: _Directory(data / name) for name in ("prompts", "traces", "verified", "filtered")}
    ids: list[pl.DataFrame] = []
    for start in range(0, n_prompts, BLOCK):
        prompts = _prompts(start, min(n_prompts, start + BLOCK))
        writers["prompts"].shard(prompts.select(Prompt.SCHEMA.keys()))
        traces = _traces(prompts, start, words)
        for part in traces.iter_slices(BLOCK):
            writers["traces"].shard(part)
            passed = part["sample_index"] % 2 == 0
            kept, dropped = part.filter(passed), part.filter(~passed)
            writers["verified"].shard(kept)
            writers["verified"].add("rejected", dropped)
            writers["verified"].add("rejections", _rejections(dropped, "verify", "wrong_answer"))
            writers["verified"].add("verdicts", _verdicts(part, passed))
            short = kept["sample_index"] == 0
            writers["filtered"].shard(kept.filter(short))
            writers["filtered"].add("rejections", _rejections(kept.filter(~short), "filter", "too_long"))
            ids.append(dropped.select("id").tail(1))
    made_of: dict[str, str] = {}
    for name, record in {"prompts": Prompt, "traces": Trace, "verified": Trace, "filtered": Trace}.items():
        stage = {"verified": "verify", "filtered": "filter"}.get(name, name)
        writers[name].close({"stage": stage, "method": "made_up", "params": {}, "inputs": made_of}, record)
        made_of = {name: content_hash(data / name)}
    pl.concat(ids).write_parquet(data / "rejected_ids.parquet")


def _prompts(start: int, end: int) -> pl.DataFrame:
    number = pl.int_range(start, end, eager=True)
    id = pl.Series([f"{(i * 0x9E3779B97F4A7C15) % 2**64:016x}" for i in number])
    frame = pl.DataFrame({"id": id, "number": number})
    text = pl.format("What is {} times {}, and why?", pl.col("number"), pl.col("number") + 7)
    message = pl.struct(role=pl.lit("user"), content=text, name=None, tool_calls=None, tool_call_id=None)
    return frame.select(
        "id", messages=pl.concat_list(message), family=pl.lit("arithmetic"), reference=pl.col("number").cast(pl.String),
        constraints=pl.lit([], dtype=Prompt.SCHEMA["constraints"]), tools=None, tests=None,
        source=pl.format("numbers.txt:{}", "number"), info=None,
    ).cast(pl.Schema(Prompt.SCHEMA))  # fmt: skip


def _traces(prompts: pl.DataFrame, seed: int, words: pl.Series) -> pl.DataFrame:
    attempts = prompts.rename({"id": "prompt_id"}).with_columns(sample_index=pl.lit([*range(N_ATTEMPTS)]))
    traces = attempts.explode("sample_index")
    n = len(traces)
    drawn = words.sample(n * WORDS, with_replacement=True, seed=seed).reshape((n, WORDS)).arr.join(" ")
    start = pl.Series([f"{(i * 0x9E3779B1 + seed) % 2**32:08x}" for i in range(n)])
    made = {
        "id": pl.format("{}#{}.{}", "prompt_id", "sample_index", start), "completion": drawn, "request_key": start,
        "finish_reason": pl.lit("stop"), "teacher": pl.lit("made-up"), "seed": pl.lit(0),
        "n_prompt_tokens": pl.lit(20), "n_completion_tokens": pl.lit(WORDS),
    }  # fmt: skip
    traces = traces.with_columns(**made)
    missing = [pl.lit(None).alias(name) for name in Trace.SCHEMA if name not in traces.columns]
    return traces.with_columns(missing).select(Trace.SCHEMA.keys()).cast(pl.Schema(Trace.SCHEMA))


def _verdicts(traces: pl.DataFrame, passed: pl.Series) -> pl.DataFrame:
    status = pl.when(passed).then(pl.lit("pass")).otherwise(pl.lit("fail"))
    return traces.select(
        "id", method=pl.lit("math_answer"), status=status, score=passed.cast(pl.Float64), answer=pl.lit("7"),
        reason=pl.when(passed).then(None).otherwise(pl.lit("wrong_answer")), detail=pl.lit("7, beside 8"),
    ).cast(pl.Schema(Verdict.SCHEMA))  # fmt: skip


def _rejections(dropped: pl.DataFrame, stage: str, reason: str) -> pl.DataFrame:
    said = {"stage": pl.lit(stage), "reason": pl.lit(reason), "detail": pl.lit("made up")}
    return dropped.select("id", **said).cast(pl.Schema(Rejection.SCHEMA))


class _Directory:
    """Writes what `datagen.contracts.dataset.DatasetWriter` would, from whole frames."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._n_shards = self._n_rows = self._n_rejected = 0
        self._pieces: dict[str, int] = {}
        self._reasons: dict[str, int] = {}

    def shard(self, rows: pl.DataFrame) -> None:
        self._write(rows, self._folder / f"part-{self._n_shards:05d}.parquet")
        self._n_shards += 1
        self._n_rows += len(rows)

    def add(self, table: str, rows: pl.DataFrame) -> None:
        number = self._pieces[table] = self._pieces.get(table, 0) + 1
        folder = self._folder / f".{table}"
        folder.mkdir(exist_ok=True)
        self._write(rows, folder / f"{number:08d}.parquet")
        if table == "rejections":
            for reason, n in rows["reason"].value_counts().iter_rows():
                self._reasons[reason] = self._reasons.get(reason, 0) + n

    def close(self, manifest: Mapping[str, Any], record: type[Prompt] | type[Trace]) -> None:
        for table in self._pieces:
            pieces = pl.scan_parquet(sorted((self._folder / f".{table}").glob("*.parquet")))
            out = self._folder / f"{table}.parquet"
            pieces.sink_parquet(out, compression="zstd", row_group_size=BLOCK, maintain_order=True)
            shutil.rmtree(self._folder / f".{table}")
        n_rejected = sum(self._reasons.values())
        write_json(
            self._folder / "manifest.json",
            {
                **manifest, "format": "datastill", "version": FORMAT_VERSION, "record": record.__name__,
                "rows": {"in": self._n_rows + n_rejected, "out": self._n_rows, "rejected": n_rejected},
                "rejected": self._reasons, "files": {},
            },
        )  # fmt: skip

    @staticmethod
    def _write(rows: pl.DataFrame, path: Path) -> None:
        rows.write_parquet(path, compression="zstd", row_group_size=BLOCK, statistics=True)


def count_rows(data: Path) -> dict[str, int]:
    """Table to number of rows, over all datasets."""
    return {name: n for name, n in _tables(data)}


def _tables(data: Path) -> Iterator[tuple[str, int]]:
    for dataset in sorted(manifest.parent for manifest in data.glob("*/manifest.json")):
        yield dataset.name, pl.scan_parquet(dataset / "part-*.parquet").select(pl.len()).collect().item()
        for file in sorted(dataset.glob("[!p]*.parquet")):
            yield f"{dataset.name}/{file.stem}", pl.scan_parquet(file).select(pl.len()).collect().item()


def table(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    n_rows = sum(results["rows"].values())
    lines = [f"{n_rows:,} rows in {len(results['rows'])} tables, {results['bytes'] / 1e9:.2f} GB", ""]
    lines += ["| command | seconds | peak memory, MB |", "|---|---|---|"]
    for name, found in results["commands"].items():
        lines.append(f"| {name} | {found['seconds']:.1f} | {found['peak_bytes'] / 1e6:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
