"""What exact nearest neighbours cost beside the bare matrix products, in time and memory.

    python -m benchmarks.embedding_search [--out FILE.json] [--kept FOLDER] [--rows 100000] [--large 1000000]
        [--slice 8192] [--turns 5] [--threads 1] [--whole]

Vectors are random, 384 numbers in float32, of length one. Bare are numpy's products of the same blocks, whose results
nobody reads; one way finds the nearest of each row, both ways of each column too. They take turns on --slice rows
against --rows, and of each the median counts, in seconds of the processor; with --whole, --rows against --rows once,
where blocks that come late find little that is nearer. A slice holds none of those, so its ratios are the worse ones.

Memory is the peak of what the process has of its own (RssAnon, every 5 ms) above what it has with the inputs loaded, or
mapped for --large.

large: --slice rows against --large rows from a file that is mapped, and what all of them would take: as many slices.

What is done is kept in --kept, so that a run that was killed goes on with the next part; give a new folder to measure
anew. With --threads above 1, seconds are those of the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.filters import ONE_CORE, print_table
from datagen.backends.neighbours import BLOCK, nearest, nearest_both, open_vectors
from datagen.backends.transformers_models import device_type
from datagen.contracts.dataset import write_json

WIDTH = 384
MODES = ("bare", "one way", "both ways")


def bare(vectors: Any, others: Any) -> None:
    """The products alone, a block in memory at a time."""
    room = np.empty(BLOCK * BLOCK, np.float32)
    for start in range(0, len(vectors), BLOCK):
        left = vectors[start : start + BLOCK]
        for first in range(0, len(others), BLOCK):
            right = others[first : first + BLOCK]
            np.matmul(left, right.T, out=room[: len(left) * len(right)].reshape(len(left), len(right)))


SEARCHES: dict[str, Callable[[Any, Any], object]] = {"bare": bare, "one way": nearest, "both ways": nearest_both}


def vectors_file(folder: Path, n: int, seed: int) -> Path:
    """Unit vectors, written a block at a time."""
    file = folder / f"vectors-{seed}-{n}.npy"
    if not file.exists():
        writing = folder / f"writing-{os.getpid()}.npy"
        vectors = np.lib.format.open_memmap(writing, "w+", np.float32, (n, WIDTH))
        spread = np.random.default_rng(seed)
        for start in range(0, n, BLOCK):
            block = spread.standard_normal((min(BLOCK, n - start), WIDTH), np.float32)
            vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        vectors.flush()
        writing.rename(file)
    return file


def run_once(files: Sequence[str], n_rows: int, mode: str, clock: Callable[[], float], *, mapped: bool) -> Any:
    """Seconds and bytes of one search."""
    vectors, others = (open_vectors(Path(file)) if mapped else np.load(file) for file in files)
    vectors = vectors[:n_rows]
    device_type()  # torch, which the embedder needs anyway, is loaded
    nearest(vectors[:BLOCK], others[:BLOCK])  # a library's own rooms are there
    with Peak() as peak:
        start = clock()
        SEARCHES[mode](vectors, others)
        seconds = clock() - start
    return {"seconds": seconds, "bytes": peak.above}


class Peak:
    """The most memory of its own that this process has above what it began with."""

    def __enter__(self) -> "Peak":
        """Begin to watch."""
        self._start = self.above = 0
        self._start = self._own()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Watch no longer."""
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.above = max(self.above, self._own() - self._start)

    def _own(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class Kept:
    """Parts that are done, each a JSON file."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, part: str, search: Sequence[Any]) -> dict[str, Any]:
        """What the search gives, in a process of its own, or gave before."""
        file = self._folder / f"{part}.json"
        if not file.exists():
            command = [sys.executable, "-m", "benchmarks.embedding_search", "--search", json.dumps(search)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            write_json(file, json.loads(done.stdout))
            print(f"{part}: {done.stdout.strip()}", flush=True)
        return json.loads(file.read_text())


def measure(
    kept: Kept, name: str, files: Sequence[Path], n_rows: int, options: Any, n_turns: int, *, mapped: bool
) -> Any:
    """A table's rows: the median of every search's turns, its ratio to the bare products, and its peak."""
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for turn in range(n_turns):
        for mode in MODES:
            search = [[str(file) for file in files], n_rows, mode, options.threads, mapped]
            part = f"{name}-{n_rows}-{files[1].stem}-{options.threads}-{mode.replace(' ', '_')}-{turn}"
            found[mode].append(kept.once(part, search))
    seconds = {mode: statistics.median(one["seconds"] for one in turns) for mode, turns in found.items()}
    ratios = {
        mode: [one["seconds"] / base["seconds"] for one, base in zip(turns, found["bare"], strict=True)]
        for mode, turns in found.items()
    }
    return [
        {
            "part": name, "search": mode, "rows": n_rows, "seconds": round(seconds[mode], 2),
            "ratio": round(seconds[mode] / seconds["bare"], 3), "least": round(min(ratios[mode]), 3),
            "most": round(max(ratios[mode]), 3),
            "MB_above": round(max(one["bytes"] for one in found[mode]) / 1e6),
        }
        for mode in MODES
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--kept", type=Path, help="folder of parts that are done and of the vectors")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000, help="0 leaves it out")
    parser.add_argument("--slice", type=int, default=2 * BLOCK)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="--rows against --rows, too")
    parser.add_argument("--search", help=argparse.SUPPRESS)  # one search, in a process of its own
    options = parser.parse_args(argv)
    if options.search:
        files, n_rows, mode, n_threads, mapped = json.loads(options.search)
        clock = time.process_time if n_threads == 1 else time.perf_counter
        print(json.dumps(run_once(files, n_rows, mode, clock, mapped=mapped)))
        return
    os.environ |= dict.fromkeys(ONE_CORE, str(options.threads)) | {"DATASTILL_DEVICE": "cpu"}
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        place = options.kept or Path(folder)
        kept = Kept(place)
        left, right = (vectors_file(place, options.rows, seed) for seed in (0, 1))
        rows = measure(kept, "slice", (left, right), options.slice, options, options.turns, mapped=False)
        if options.whole:
            rows += measure(kept, "whole", (left, right), options.rows, options, 1, mapped=False)
        if options.large:
            large = vectors_file(place, options.large, 2)
            rows += measure(kept, "large", (left, large), options.slice, options, 1, mapped=True)
    print_table(rows)
    facts: dict[str, Any] = {"benchmark": "embedding_search", "threads": options.threads, "width": WIDTH}
    facts |= {"others": options.rows, "others_large": options.large, "searches": rows}
    if options.large:
        hours = rows[-1]["seconds"] * options.large / options.slice / 3600
        operations = 2.0 * WIDTH * options.large**2
        print(f"{options.large} x {options.large} both ways: {operations:.2g} operations, {hours:.1f} hours as here")
        facts |= {"hours_large": round(hours, 2)}
    if options.out:
        write_json(options.out, facts)


if __name__ == "__main__":
    main()
