"""The ledger: durable answers a second, syncs an answer, time and memory to read, check, export and import a million.

    python -m benchmarks.ledger [--out FILE.json] [--folder DIR] [--rows N] [--writes N]

Answers of about 500 bytes; every case in a process of its own. Rates are the median of 3 runs. Syncs are the kernel's
count of fsync and fdatasync over a run of its own, opening and closing included; they need strace. The first row is
the disk's own rate: one thread that appends 64 answers to a file and syncs it, again and again.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datagen.backends.ledger import Ledger

N_WRITERS = 64


def key(i: int) -> bytes:
    """Of the i-th answer."""
    return hashlib.sha256(b"%d" % i).digest()


def answer(i: int) -> bytes:
    """About 500 bytes."""
    return b'{"text":"%07d' % i + b"x" * 480 + b'"}'


def in_tasks(ledger: Ledger, numbers: Iterator[int]) -> None:
    """64 asyncio tasks."""

    async def write() -> None:
        for i in numbers:
            await ledger.aput(key(i), answer(i))

    _run_tasks(write)


def in_tasks_that_claim(ledger: Ledger, numbers: Iterator[int]) -> None:
    """64 asyncio tasks, each of which claims its next key before it puts the answer."""

    async def write() -> None:
        for i in numbers:
            assert ledger.claim([key(i)]).granted
            await ledger.aput(key(i), answer(i))

    _run_tasks(write)


def in_tasks_claimed_by_64(ledger: Ledger, numbers: Iterator[int]) -> None:
    """64 asyncio tasks; whoever finds none left claims the next 64 keys for all."""
    claimed: list[int] = []

    async def write() -> None:
        while True:
            if not claimed:
                claimed.extend(islice(numbers, N_WRITERS))
                assert len(ledger.claim(map(key, claimed)).granted) == len(claimed)
            if not claimed:
                return
            i = claimed.pop()
            await ledger.aput(key(i), answer(i))

    _run_tasks(write)


def _run_tasks(write: Any) -> None:
    async def write_all() -> None:
        await asyncio.gather(*(write() for _ in range(N_WRITERS)))

    asyncio.run(write_all())


def in_threads(ledger: Ledger, numbers: Iterator[int]) -> None:
    """64 threads."""
    drawing = threading.Lock()

    def write() -> None:
        while True:
            with drawing:
                i = next(numbers, None)
            if i is None:
                return
            ledger.put(key(i), answer(i))

    threads = [threading.Thread(target=write) for _ in range(N_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_batches_of_32(ledger: Ledger, numbers: Iterator[int]) -> None:
    """One thread that stores batches, as the local backend does."""
    while batch := list(islice(numbers, 32)):
        ledger.put_many({key(i): answer(i) for i in batch})


WRITERS = {
    "64 tasks": in_tasks,
    "64 threads": in_threads,
    "64 tasks, each claims its key": in_tasks_that_claim,
    "64 tasks, 64 keys a claim": in_tasks_claimed_by_64,
    "put_many of 32": in_batches_of_32,
}


def write(case: str, path: Path, first: int, n: int) -> dict[str, float]:
    """Store `n` answers from number `first` on."""
    with Ledger.open(path) as ledger:
        start_s, cpu_s = time.perf_counter(), time.process_time()
        WRITERS[case](ledger, iter(range(first, first + n)))
        wall_s = time.perf_counter() - start_s
        return {"answers_per_s": n / wall_s, "cpu_us_per_answer": (time.process_time() - cpu_s) / n * 1e6}


def read(path: Path, n: int) -> dict[str, float]:
    """Read `n` answers in both ways."""
    with Ledger.open(path) as ledger:
        start_s = time.perf_counter()
        assert sum(1 for _ in ledger.iterate()) == n
        middle_s = time.perf_counter()
        for first in range(0, n, 1000):
            assert len(ledger.get_many(key(i) for i in range(first, first + 1000))) == 1000
        end_s = time.perf_counter()
    return {
        "iterate_answers_per_s": n / (middle_s - start_s),
        "get_many_answers_per_s": n / (end_s - middle_s),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def keep(step: str, path: Path, n: int) -> dict[str, float]:
    """One step of `datastill ledger` over `n` answers; an import goes into a ledger of its own."""
    from datagen.ledger_exchange import export_answers, import_answers  # here: they bring polars, in memory too
    from datagen.ledger_upkeep import verify

    steps: dict[str, Callable[[], object]] = {
        "verify": lambda: verify(path),
        "export": lambda: export_answers(path, path.with_name("exported")),
        "import": lambda: import_answers(path.with_name("again.sqlite"), path.with_name("exported")),
    }
    start_s = time.perf_counter()
    steps[step]()
    return {
        "answers_per_s": n / (time.perf_counter() - start_s),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def disk(path: Path, n: int) -> dict[str, float]:
    """What the disk alone allows."""
    group = answer(0) * N_WRITERS
    with path.open("ab", buffering=0) as file:
        start_s = time.perf_counter()
        for _ in range(n // N_WRITERS):
            file.write(group)
            os.fdatasync(file.fileno())
        return {"answers_per_s": n / (time.perf_counter() - start_s)}


def child(*arguments: object, prefix: tuple[str, ...] = ()) -> dict[str, float]:
    """Run one case in its own process, under `prefix`."""
    done = subprocess.run([*prefix, sys.executable, __file__, "--case", *map(str, arguments)], stdout=-1, check=True)
    return json.loads(done.stdout)


def two_processes(path: Path, n: int) -> float:
    """Together, from the slower one: both start within the time of an interpreter's start."""
    command = [sys.executable, __file__, "--case", "write", "64 tasks", str(path)]
    both = [subprocess.Popen([*command, str(first), str(n // 2)], stdout=-1, text=True) for first in (0, n)]
    return 2 * min(json.loads(process.communicate()[0])["answers_per_s"] for process in both)


def syncs(case: str, folder: Path, n: int) -> dict[str, float]:
    """The kernel's count an answer; nothing without strace."""
    if shutil.which("strace") is None:
        return {}
    log = folder / "strace"
    strace = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log))
    child("write", case, folder / "strace.sqlite", 0, n, prefix=strace)
    return {"syncs_per_answer": len(re.findall(r"\bf(?:data)?sync\(", log.read_text())) / n}


def measure(folder: Path, n_writes: int, n_rows: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    rows: list[dict[str, Any]] = []

    def fresh() -> Path:
        return Path(tempfile.mkdtemp(dir=folder))

    def median(case: str, rates: list[float], **more: Any) -> None:
        rows.append({"case": case, "answers_per_s": statistics.median(rates), "runs": rates, **more})

    median(
        "the disk alone, 64 answers a sync",
        [child("disk", fresh() / "file", n_writes)["answers_per_s"] for _ in range(3)],
    )
    for case in WRITERS:
        runs = [child("write", case, fresh() / "ledger.sqlite", 0, n_writes) for _ in range(3)]
        median(
            case,
            [run["answers_per_s"] for run in runs],
            cpu_us_per_answer=statistics.median(run["cpu_us_per_answer"] for run in runs),
            **syncs(case, fresh(), n_writes // 4),
        )
    median("two processes of 64 tasks", [two_processes(fresh() / "ledger.sqlite", n_writes) for _ in range(3)])
    for n in (10_000, n_rows):
        path = fresh() / "ledger.sqlite"
        with Ledger.open(path) as ledger:
            for first in range(0, n, 5000):
                ledger.put_many({key(i): answer(i) for i in range(first, first + 5000)})
        found = child("read", path, n)
        for way in ("iterate", "get_many"):
            rows.append(
                {
                    "case": f"read {n:,} back, {way}",
                    "answers_per_s": found[f"{way}_answers_per_s"],
                    "peak_memory_mb": found["peak_memory_mb"],
                }
            )
        for step in ("verify", "export", "import"):
            rows.append({"case": f"{step} {n:,}", **child("keep", step, path, n)})
    return rows


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure (default: here)")
    parser.add_argument("--writes", type=int, default=64_000, help="answers a run")
    parser.add_argument("--rows", type=int, default=1_000_000, help="answers to read back, a multiple of 5,000")
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        match options.case:
            case ["write", case, path, first, n]:
                result = write(case, Path(path), int(first), int(n))
            case ["read", path, n]:
                result = read(Path(path), int(n))
            case ["keep", step, path, n]:
                result = keep(step, Path(path), int(n))
            case ["disk", path, n]:
                result = disk(Path(path), int(n))
            case other:
                raise SystemExit(f"no case {other}")
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as folder:
        rows = measure(Path(folder), options.writes, options.rows)
    columns = ("answers_per_s", "cpu_us_per_answer", "syncs_per_answer", "peak_memory_mb")
    print(f"{'case':36}" + "".join(f"{column:>20}" for column in columns))
    for row in rows:
        cells = [f"{row[column]:,.4g}" if column in row else "" for column in columns]
        print(f"{row['case']:36}" + "".join(f"{cell:>20}" for cell in cells))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(
            json.dumps({"benchmark": "ledger", "cpus": os.cpu_count(), "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
