"""Near-duplicates: what is found of what there is, documents a second beside datatrove and text-dedup, memory.

    python -m benchmarks.filters --texts FOLDER [--out FILE.json] [--peers datatrove=PYTHON text-dedup=PYTHON]

FOLDER holds texts as *.jsonl.gz with a `text` a line. To them near-duplicates are added, of a third of the texts, with
words replaced here and there so that their Jaccard of 5-word shingles goes from 0.6 to 1; then all are shuffled. What
there is to find comes from the exact Jaccard of every pair that shares a shingle. PYTHON is an interpreter that has the
peer installed; each tool reads one file and writes what it keeps, on one core, as a process whose start counts. The
tools take turns, and each counts its median run, by the clock and in seconds of the processor, which tell what a tool
takes where the machine is busy with other work too. With datasketch=PYTHON its signatures are timed beside rensa's and
plain numpy's, on the same sets of shingles.
"""

import argparse
import gzip
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from datagen.contracts.dataset import write_json

THRESHOLD, N = 0.8, 5
PARTS = ("signatures", "tools", "memory")
ONE_CORE = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "RAYON")} | {"POLARS_MAX_THREADS": "1"}

# A process counts the memory of the one that forked it as its own, so a small one starts the tools.
WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(f"{used.ru_maxrss} {used.ru_utime + used.ru_stime}")
sys.exit(code)
"""

DATATROVE = """
import sys
from datatrove.executor import LocalPipelineExecutor as Executor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
folder, out, buckets, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = MinhashConfig(hash_config=HashConfig(precision=64), n_grams=5, num_buckets=buckets, hashes_per_bucket=rows)
reader = lambda: JsonlReader(folder, glob_pattern="*.jsonl")
steps = [
    ([reader(), MinhashDedupSignature(f"{out}/signatures", config=config)], 1),
    ([MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)], buckets),
    ([MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)], 1),
    ([reader(), MinhashDedupFilter(f"{out}/remove"), JsonlWriter(f"{out}/kept", compression=None)], 1),
]
for i, (steps, tasks) in enumerate(steps):
    Executor(pipeline=steps, tasks=tasks, workers=1, logging_dir=f"{out}/logs/{i}").run()
"""

DATASKETCH = """
import json, sys, time
from datasketch import MinHash
sets, times = json.load(open(sys.argv[1])), []
for _ in range(3):
    start = time.perf_counter()
    for one in sets:
        MinHash(126, hashfunc=int).update_batch(one)
    times.append(time.perf_counter() - start)
print(min(times))
"""

TEXT_DEDUP = """
[input]
input_type = "local_files"
file_type = "json"
[input.read_arguments]
path = "json"
data_files = "{file}"
split = "train"
[algorithm]
algorithm_name = "minhash"
text_column = "text"
num_perm = 128
threshold = {threshold}
ngram_size = {n}
num_proc = 1
check_false_positive = true
[output]
output_dir = "{out}/kept"
clean_cache = false
skip_filtering = false
[debug]
enable_profiling = false
"""


def read_texts(folder: Path) -> list[str]:
    """The texts of every file, in the order of their names."""
    texts: list[str] = []
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    return texts


def with_duplicates(texts: Sequence[str], seed: int = 0) -> list[str]:
    """The texts and near-duplicates of every third, shuffled.

    Of w words in a row, k of them changed far from each other leave about w - 5k of w + 5k shingles, so that a Jaccard
    of s takes k = w (1 - s) / (5 (1 + s)).
    """
    spread = random.Random(seed)
    planted: list[str] = []
    for text in texts[::3]:
        words = text.split(" ")
        similarity = spread.uniform(0.6, 1)
        n_changes = round(len(words) * (1 - similarity) / (N * (1 + similarity)))
        for place in spread.sample(range(len(words)), n_changes):
            words[place] = f"changed{spread.randrange(10**6)}"
        planted.append(" ".join(words))
    everything = [*texts, *planted]
    spread.shuffle(everything)
    return everything


def similar_earlier(texts: Sequence[str]) -> list[dict[int, float]]:
    """For each text the earlier ones whose Jaccard reaches the threshold: every pair that shares a shingle is counted.

    Words are found by another expression than the filter's, and shingles are tuples of words in Python's sets.
    """
    numbers: dict[tuple[str, ...], int] = {}
    holders: defaultdict[int, list[int]] = defaultdict(list)
    sizes: list[int] = []
    found: list[dict[int, float]] = []
    for i, text in enumerate(texts):
        words = re.findall(r"\w+", text.casefold())
        n = min(N, len(words))
        grams = {numbers.setdefault(tuple(words[k : k + n]), len(numbers)) for k in range(len(words) - n + 1)}
        common: defaultdict[int, int] = defaultdict(int)
        for gram in grams:
            for j in holders[gram]:
                common[j] += 1
            holders[gram].append(i)
        sizes.append(len(grams))
        similar = {j: n_common / (sizes[i] + sizes[j] - n_common) for j, n_common in common.items()}
        found.append({j: similarity for j, similarity in similar.items() if similarity >= THRESHOLD})
    return found


def quality(kept: set[int], similar: Sequence[dict[int, float]]) -> dict[str, float | int]:
    """What a tool that keeps `kept` finds.

    recall: share of similar pairs of which it does not keep both. precision: share of dropped texts to which one that
    it keeps is similar, earlier or later, so that a tool that keeps another member of a cluster loses nothing.
    """
    pairs = [(j, i) for i, earlier in enumerate(similar) for j in earlier]
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for j, i in pairs:
        neighbours[i].add(j)
        neighbours[j].add(i)
    dropped = [i for i in range(len(similar)) if i not in kept]
    return {
        "kept": len(kept),
        "similar_pairs": len(pairs),
        "recall": round(1 - sum(i in kept and j in kept for j, i in pairs) / len(pairs), 4),
        "precision": round(sum(bool(neighbours[i] & kept) for i in dropped) / len(dropped), 4) if dropped else 1.0,
    }


class Cost(NamedTuple):
    """Of a process and its children: seconds by the clock and of the processor, and bytes of the largest."""

    seconds: float
    cpu_seconds: float
    peak: int


def run(command: Sequence[str], cwd: Path, core: int | None = 0, **more: str) -> Cost:
    """What a process takes, on one core or on all."""
    pinned = ["taskset", "-c", str(core), *command] if core is not None else [*command]
    log, peak = cwd / "log.txt", cwd / "peak.txt"
    with log.open("wb") as stream:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", WATCH, str(peak), *pinned],
            cwd=cwd, env=os.environ | ONE_CORE | more, stdout=stream, stderr=stream, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{log.read_text()[-3000:]}")
    size, cpu_seconds = peak.read_text().split()
    return Cost(seconds, float(cpu_seconds), int(size) * 1024)


def ours(file: Path, out: Path, core: int | None = 0) -> tuple[Cost, Callable[[], set[int]]]:
    """The stage; the ids of the texts are their numbers."""
    command = [sys.executable, "-m", "datagen.stages.filter", "--documents", str(file), "--out", str(out / "kept")]
    cost = run(
        [*command, "--set", "method=near_duplicates", f"threshold={THRESHOLD}", f"shingle_words={N}"], out, core,
        PYTHONPATH=str(Path.cwd()), DATASTILL_HOME=str(out / "home"),
    )  # fmt: skip
    return cost, lambda: {int(id) for id in pl.read_parquet(out / "kept" / "part-*.parquet")["id"]}


def datatrove(python: str, file: Path, out: Path) -> tuple[Cost, Callable[[], set[int]]]:
    """Its four steps with 14 buckets of 8, FineWeb's and its example's."""
    cost = run([python, "-c", DATATROVE, str(file.parent), str(out), "14", "8"], out)
    return cost, lambda: _kept_ids(out / "kept")


def text_dedup(python: str, file: Path, out: Path) -> tuple[Cost, Callable[[], set[int]]]:
    """Its minhash with 128 hashes, candidates verified."""
    (out / "config.toml").write_text(TEXT_DEDUP.format(file=file, out=out, threshold=THRESHOLD, n=N))
    cost = run([python, "-m", "text_dedup.minhash"], out, HF_HOME=str(out / "hf"))
    read = "import sys, datasets; print(*datasets.load_from_disk(sys.argv[1])['id'])"
    kept = subprocess.run([python, "-c", read, str(out / "kept")], capture_output=True, text=True, check=True).stdout
    return cost, lambda: {int(id) for id in kept.split()}


def _kept_ids(folder: Path) -> set[int]:
    return {int(json.loads(line)["id"]) for file in folder.glob("*.jsonl") for line in file.open(encoding="utf-8")}


def compare(texts: Sequence[str], peers: dict[str, str], n_runs: int, work: Path) -> list[dict[str, Any]]:
    """Every tool on the same file, turn by turn."""
    source = work / "input"
    source.mkdir()
    file = write_documents(source / "texts.jsonl", texts)
    similar = similar_earlier(texts)
    tools: dict[str, Callable[[Path], tuple[Cost, Callable[[], set[int]]]]] = {"datastill": lambda out: ours(file, out)}
    if python := peers.get("datatrove"):
        tools["datatrove"] = lambda out: datatrove(python, file, out)
    if other := peers.get("text-dedup"):
        tools["text-dedup"] = lambda out: text_dedup(other, file, out)
    costs: dict[str, list[Cost]] = {name: [] for name in tools}
    rows: dict[str, dict[str, Any]] = {}
    for turn in range(n_runs):
        for name, tool in tools.items():
            out = work / f"{name}-{turn}"
            out.mkdir()
            cost, kept = tool(out)
            costs[name].append(cost)
            rows[name] = {"tool": name, "peak_mb": round(cost.peak / 2**20), **quality(kept(), similar)}
            shutil.rmtree(out)
    for name, row in rows.items():
        seconds, cpu_seconds = (
            {tool: statistics.median(cost[i] for cost in some) for tool, some in costs.items()} for i in (0, 1)
        )
        row["documents_per_s"] = round(len(texts) / seconds[name], 1)
        row["times_slower"] = round(seconds[name] / seconds["datastill"], 2)
        row["cpu_s"] = round(cpu_seconds[name], 2)
        row["times_cpu"] = round(cpu_seconds[name] / cpu_seconds["datastill"], 2)
    return list(rows.values())


def signatures(texts: Sequence[str], peers: dict[str, str], work: Path) -> list[dict[str, Any]]:
    """Microseconds a signature of 126 hashes takes, of the fastest of three turns, by each library."""
    import numpy as np

    from datagen.contracts.words import normalise, spaced_words
    from datagen.filter import _shingles

    sets = _shingles.shingle_sets([spaced_words(normalise(text)) for text in texts[:4096]], N)
    spread = np.random.default_rng(0)
    factors = spread.integers(0, 2**63, 126, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    blocks = [sets[start : start + 512] for start in range(0, len(sets), 512)]

    def by_rensa() -> None:
        for block in blocks:
            _shingles.sign(block, 126, seed=0)

    def by_numpy() -> None:
        for block in blocks:
            flat, starts = np.concatenate(block), np.cumsum([0, *map(len, block[:-1])])
            signs = np.empty((len(block), 126), np.uint64)
            for i in range(126):
                np.minimum.reduceat(flat * factors[i], starts, out=signs[:, i])

    def seconds(sign: Callable[[], None]) -> float:
        start = time.perf_counter()
        sign()
        return time.perf_counter() - start

    found = {name: min(seconds(sign) for _ in range(3)) for name, sign in (("rensa", by_rensa), ("numpy", by_numpy))}
    if python := peers.get("datasketch"):
        (work / "sets.json").write_text(json.dumps([[int(one) & 0xFFFFFFFF for one in block] for block in sets]))
        done = subprocess.run(
            [python, "-c", DATASKETCH, str(work / "sets.json")], capture_output=True, text=True, check=True
        )
        found["datasketch"] = float(done.stdout)
    return [{"signatures": name, "us_each": round(1e6 * took / len(sets), 1)} for name, took in found.items()]


def write_documents(file: Path, texts: Sequence[str] | Iterator[str]) -> Path:
    """The texts as rows with their numbers as ids."""
    with file.open("w", encoding="utf-8") as stream:
        for i, text in enumerate(texts):
            stream.write(json.dumps({"id": str(i), "text": text}, ensure_ascii=False) + "\n")
    return file


def many_documents(words: Sequence[str], n: int) -> Iterator[str]:
    """Texts of 60 words drawn from real ones; every twentieth is an earlier one with a word changed."""
    spread = random.Random(1)
    recent: list[list[str]] = []
    for i in range(n):
        if i % 20 == 19:
            text = [*spread.choice(recent)]
            text[0] = f"changed{i}"
        else:
            text = [spread.choice(words) for _ in range(60)]
            recent = [*recent[-99:], text]
        yield " ".join(text)


def memory(texts: Sequence[str], sizes: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """Peak memory of the stage at each number of documents."""
    words = [word for text in texts[::50] for word in text.split()]
    rows: list[dict[str, Any]] = []
    for n in sizes:
        out = work / f"memory-{n}"
        out.mkdir()
        cost, kept = ours(write_documents(out / "texts.jsonl", many_documents(words, n)), out, None)
        n_kept = len(kept())
        row = {"documents": n, "kept": n_kept, "peak_mb": round(cost.peak / 2**20)}
        row["documents_per_s"] = round(n / cost.seconds)
        rows.append(row)
        shutil.rmtree(out)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="folder of *.jsonl.gz")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME=PYTHON", help="datatrove=..., text-dedup=...")
    parser.add_argument(
        "--only", nargs="*", choices=PARTS, default=PARTS, help="parts to measure; FILE keeps the others"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 1_000_000], help="documents, for memory")
    options = parser.parse_args(argv)
    texts = with_duplicates(read_texts(options.texts))
    peers = dict(one.split("=", 1) for one in options.peers)
    with tempfile.TemporaryDirectory(prefix="filters-") as folder:
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "signatures": lambda: signatures(texts, peers, Path(folder)),
            "tools": lambda: compare(texts, peers, options.runs, Path(folder)),
            "memory": lambda: memory(texts, options.sizes, Path(folder)),
        }
        found: dict[str, Any] = {}
        for name in options.only:
            found[name] = parts[name]()
            print_table(found[name])
    if options.out:
        facts = {"benchmark": "filters", "cpus": os.cpu_count(), "documents": len(texts), "threshold": THRESHOLD}
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        write_json(options.out, before | facts | found)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """The rows under their names."""
    for line in ([*rows[0]], *([*row.values()] for row in rows)):
        print("".join(f"{cell!s:>16}" for cell in line), flush=True)


if __name__ == "__main__":
    main()
