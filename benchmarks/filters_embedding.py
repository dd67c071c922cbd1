"""What vectors of texts cost once they are there: decontamination beside the bare product, duplicates beside libraries.

    python -m benchmarks.filters_embedding [--out FILE.json] [--peers faiss=PYTHON usearch=PYTHON semhash=PYTHON]

Vectors are random, 384 numbers in float32, of length one; one core, one thread. PYTHON is an interpreter that has the
library installed. Whoever is compared takes turns, and each counts its median run, in seconds of the processor, so that
what else the machine does counts little.

product: the greatest cosine of each of 100,000 rows with 10,000 items. The bare product is numpy's, 1,024 rows at a
time, and the maximum of each row; datastill's is what `decontamination` does with a block of rows it has embedded.

duplicates: of 20,000 rows, a third near an earlier one at a cosine of 0.8 to 1, those to which an earlier one has a
cosine of 0.95. `found` is the share of them that a tool finds, where every pair is looked at by numpy.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.filters import ONE_CORE, print_table
from datagen.contracts.dataset import write_json

WIDTH, THRESHOLD, BLOCK = 384, 0.95, 1024

# Each reads the file of vectors, prints its seconds, and writes the rows that have an earlier neighbour.
PEERS = {
    "faiss": """
import sys, time, numpy as np, faiss
vectors, threshold = np.load(sys.argv[1]), float(sys.argv[2])
faiss.omp_set_num_threads(1)
start = time.process_time()
index = faiss.IndexFlatIP(vectors.shape[1])
index.add(vectors)
ends, _, others = index.range_search(vectors, threshold)
rows = np.repeat(np.arange(len(vectors)), np.diff(ends.astype(np.int64)))
found = np.unique(rows[others < rows])
print(time.process_time() - start)
np.save(sys.argv[3], found)
""",
    "usearch": """
import sys, time, numpy as np
from usearch.index import Index
vectors, threshold = np.load(sys.argv[1]), float(sys.argv[2])
start = time.process_time()
index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
keys = np.arange(len(vectors))
index.add(keys, vectors, threads=1)
matches = index.search(vectors, 10, threads=1)
near = (1 - matches.distances >= threshold) & (matches.keys.astype(np.int64) < keys[:, None])
found = np.flatnonzero(near.any(axis=1))
print(time.process_time() - start)
np.save(sys.argv[3], found)
""",
    "semhash": """
import sys, time, numpy as np
from semhash import SemHash
vectors, threshold = np.load(sys.argv[1]), float(sys.argv[2])
class Encoder:
    def encode(self, texts, **_):
        return vectors[[int(text) for text in texts]]
start = time.process_time()
index = SemHash.from_records([str(i) for i in range(len(vectors))], model=Encoder())
result = index.self_deduplicate(threshold=threshold)
print(time.process_time() - start)
kept = {int(one) for one in result.selected}
np.save(sys.argv[3], np.array([i for i in range(len(vectors)) if i not in kept]))
""",
}


def unit(vectors: Any) -> Any:
    """Rows of length one in float32."""
    import numpy as np

    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def product(n_rows: int, n_items: int, n_runs: int) -> list[dict[str, Any]]:
    """Seconds of numpy and of what decontamination does."""
    import numpy as np
    import torch

    from datagen.filter.decontamination import find_items

    spread = np.random.default_rng(0)
    rows, items = (unit(spread.normal(size=(n, WIDTH))) for n in (n_rows, n_items))
    of_text = torch.arange(BLOCK)

    def bare() -> None:
        for start in range(0, n_rows, BLOCK):
            (rows[start : start + BLOCK] @ items.T).max(axis=1)

    def ours() -> None:
        for start in range(0, n_rows, BLOCK):
            find_items(torch.from_numpy(rows[start : start + BLOCK]), of_text, torch.from_numpy(items), 0.9)

    found = in_turns({"numpy": bare, "datastill": ours}, n_runs)
    return [
        {"product": name, "rows": n_rows, "items": n_items, "seconds": took, "ratio": round(took / found["numpy"], 2)}
        for name, took in found.items()
    ]


def in_turns(tools: dict[str, Callable[[], None]], n_runs: int) -> dict[str, float]:
    """The median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(n_runs):
        for name, tool in tools.items():
            start = time.process_time()
            tool()
            seconds[name].append(time.process_time() - start)
    return {name: round(statistics.median(took), 2) for name, took in seconds.items()}


def duplicates(n_rows: int, peers: dict[str, str], n_runs: int, work: Path) -> list[dict[str, Any]]:
    """Seconds of semantic_duplicates' search and of each library's, and what they find."""
    import numpy as np

    from datagen.filter.semantic_duplicates import find_similar

    spread = np.random.default_rng(1)
    vectors = unit(spread.normal(size=(n_rows, WIDTH)))
    for i in range(1, n_rows, 3):
        noise = spread.normal(size=WIDTH)
        noise -= (noise @ vectors[i - 1]) * vectors[i - 1]
        cosine = spread.uniform(0.8, 1)
        vectors[i] = cosine * vectors[i - 1] + (1 - cosine**2) ** 0.5 * noise / np.linalg.norm(noise)
    vectors = unit(vectors)[spread.permutation(n_rows)]
    np.save(work / "vectors.npy", vectors)
    there = {
        start + int(i)
        for start in range(0, n_rows, BLOCK)
        for i in np.flatnonzero(
            (np.tril(vectors[start : start + BLOCK] @ vectors.T, start - 1) >= THRESHOLD).any(axis=1)
        )
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("datastill", *peers)}
    found: dict[str, set[int]] = {}
    for _ in range(n_runs):
        copy = vectors.copy()
        start = time.process_time()
        of, _cosines = find_similar(copy, THRESHOLD)
        seconds["datastill"].append(time.process_time() - start)
        found["datastill"] = set(np.flatnonzero(of >= 0).tolist())
        for name, python in peers.items():
            arguments = [str(work / "vectors.npy"), str(THRESHOLD), str(work / "found.npy")]
            done = subprocess.run([python, "-c", PEERS[name], *arguments], capture_output=True, text=True, check=True)
            seconds[name].append(float(done.stdout.split()[-1]))
            found[name] = set(np.load(work / "found.npy").tolist())
    return [
        {
            "duplicates": name, "rows": n_rows, "seconds": round(statistics.median(took), 2),
            "found": round(len(found[name] & there) / len(there), 4), "others": len(found[name] - there),
        }
        for name, took in seconds.items()
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure on one core, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME=PYTHON", help=", ".join(PEERS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs=3, default=[100_000, 10_000, 20_000], help="rows, items, rows")
    options = parser.parse_args(argv)
    if any(os.environ.get(name) != n for name, n in ONE_CORE.items()):  # libraries read them when they are loaded
        again = [sys.executable, "-m", "benchmarks.filters_embedding", *(sys.argv[1:] if argv is None else argv)]
        subprocess.run(["taskset", "-c", "0", *again], env=os.environ | ONE_CORE, check=True)
        return
    peers = dict(one.split("=", 1) for one in options.peers)
    n_rows, n_items, n_compared = options.sizes
    products = product(n_rows, n_items, options.runs)
    print_table(products)
    with tempfile.TemporaryDirectory(prefix="filters-") as folder:
        searches = duplicates(n_compared, peers, options.runs, Path(folder))
    print_table(searches)
    if options.out:
        facts = {"benchmark": "filters_embedding", "cpus": os.cpu_count(), "threshold": THRESHOLD}
        write_json(options.out, facts | {"product": products, "duplicates": searches})


if __name__ == "__main__":
    main()
