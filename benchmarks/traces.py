"""The traces command over HTTP: its speed, cost and memory beside a bare loop, and what kills, limits and slow rows do.

    python -m benchmarks.traces [--out FILE.json] [--folder DIR] [--only CASE ...] [--repeats N] [--peer NAME=COMMAND]

One server process (benchmarks/traces_server.py) answers everybody; the request window is its own count from the first
request to the last answer. CPU is user and system time of the client's whole process tree, memory the tree's peak,
sampled and the kernel's maximum. Cases:

    speed   2,000 prompts of 50 ms, 64 at a time, clients in turn, the median of the repeats
    memory  the tree's peak at 2,000 and at 500,000 prompts without latency
    kill    400 prompts, 32 at a time, SIGKILL at half and at ten random moments: answers bought twice, and the bytes
    reject  400 prompts of 0.2 s, 64 allowed, the server rejects above 32
    tail    1 % of the answers take 40 times as long: window of a work-conserving schedule over the measured one

A peer's COMMAND is run with PORT, number of prompts and concurrency as its last arguments, in its own interpreter:
`--peer "curator=/opt/curator/bin/python curator_client.py"`.
"""

import argparse
import heapq
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.traces_server import Settings, latencies
from datagen.contracts.dataset import content_hash, read_manifest, write_json

SAMPLE_S = 0.1
N_KILLS = 10
Case = Callable[["Bench"], list[dict[str, Any]]]


@dataclass(frozen=True)
class Usage:
    """What a client's process tree took: wall and CPU seconds, and the peak of its resident memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Bench:
    """The server that runs, a folder to work in, and what the command line asked for."""

    port: int
    folder: Path
    repeats: int
    peers: Mapping[str, Sequence[str]]
    memory_prompts: int

    @property
    def base_url(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.port}/v1"

    def reset(self, settings: Settings) -> None:
        """Make the server ready for the next run."""
        self._call("/reset", json.dumps(asdict(settings)).encode())

    def stats(self) -> dict[str, Any]:
        """The server's counts; the window in seconds."""
        stats = self._call("/stats")
        return stats | {"window_s": (stats["last_answer"] or 0.0) - (stats["first_request"] or 0.0)}

    def prompts(self, n: int) -> Path:
        """A file of `n` prompts, each of its own words."""
        path = self.folder / f"prompts-{n}.jsonl"
        if not path.exists():
            with path.open("w") as file:
                for i in range(n):
                    file.write(json.dumps({"id": f"p{i}", "prompt": f"Write one sentence about topic {i}."}) + "\n")
        return path

    def ours(self, n: int, concurrency: int, out: str, home: str) -> list[str]:
        """The command that users run; its ledger is under `home`."""
        options = f"backend=openai_api base_url={self.base_url} model=mock max_new_tokens=64"
        return [
            *f"env DATASTILL_HOME={self.folder / home} {sys.executable} -m datagen.stages.traces".split(),
            *f"--prompts {self.prompts(n)} --out {self.folder / out} --concurrency {concurrency}".split(),
            *f"--set {options}".split(),
        ]

    def bare(self, n: int, concurrency: int) -> list[str]:
        """The bare loop's command."""
        arguments = f"{self.base_url} {self.prompts(n)} {self.folder / 'bare.jsonl'} {concurrency}"
        return f"{sys.executable} -m benchmarks.traces_bare {arguments}".split()

    def _call(self, path: str, data: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=30) as reply:
            return json.load(reply)


def run_client(command: Sequence[str]) -> Usage:
    """Run a client to its end.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=said, stderr=said)
        ended = threading.Event()
        peaks = [0]
        sampler = threading.Thread(target=_sample, args=(process.pid, peaks, ended))
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - start
        ended.set()
        sampler.join()
        if status:
            said.seek(0)
            raise SystemExit(f"{shlex.join(command)} ended with {status}:\n{said.read().decode()[-2000:]}")
    peak_mb = max(peaks[0] / 2**20, usage.ru_maxrss / 2**10)
    return Usage(wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, peak_mb=peak_mb)


def _sample(root: int, peaks: list[int], ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_S):
        peaks[0] = max(peaks[0], sum(map(_resident_bytes, _tree(root))))


def _tree(root: int) -> Iterator[int]:
    yield root
    try:
        threads = list(Path(f"/proc/{root}/task").iterdir())
        children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _tree(child)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def speed(bench: Bench) -> list[dict[str, Any]]:
    """Clients in turn; each row is the median of a client's runs, beside the bare loop's."""
    n, concurrency = 2000, 64
    found: dict[str, list[dict[str, float]]] = {}
    for repeat in range(bench.repeats):
        clients = {
            "bare loop": bench.bare(n, concurrency),
            "datastill": bench.ours(n, concurrency, "traces", f"home-{repeat}"),
        }
        for name, command in bench.peers.items():
            clients[name] = [*command, str(bench.port), str(n), str(concurrency)]
        for name, command in clients.items():
            bench.reset(Settings())
            usage = run_client(command)
            stats = bench.stats()
            if stats["distinct"] != n:
                raise SystemExit(f"{name} got {stats['distinct']} of {n} prompts answered")
            found.setdefault(name, []).append(asdict(usage) | {"window_s": stats["window_s"]})
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    floor = medians["bare loop"]
    return [
        {
            "client": name,
            "window_s": round(m["window_s"], 3),
            "window_ratio": round(m["window_s"] / floor["window_s"], 3),
            "cpu_s": round(m["cpu_s"], 3),
            "cpu_ratio": round(m["cpu_s"] / floor["cpu_s"], 2),
            "peak_mb": round(m["peak_mb"], 1),
            "wall_s": round(m["wall_s"], 2),
        }
        for name, m in medians.items()
    ]


def memory(bench: Bench) -> list[dict[str, Any]]:
    """The peak by the number of prompts."""
    rows: list[dict[str, Any]] = []
    for n in (2000, bench.memory_prompts):
        bench.reset(Settings(latency_s=0.0))
        usage = run_client(bench.ours(n, 64, "traces", f"home-memory-{n}"))
        rows.append({"prompts": n, "peak_mb": round(usage.peak_mb, 1), "wall_s": round(usage.wall_s, 1)})
        rows[-1]["ratio"] = round(rows[-1]["peak_mb"] / rows[0]["peak_mb"], 2)
    return rows


def kill(bench: Bench) -> list[dict[str, Any]]:
    """SIGKILL, then the same command to its end; `same bytes` compares with a run that nobody killed."""
    n, concurrency = 400, 32
    settings = Settings()
    bench.reset(settings)
    run_client(bench.ours(n, concurrency, "unbroken", "home-unbroken"))
    expected = content_hash(bench.folder / "unbroken")
    moments = random.Random(0)
    rows: list[dict[str, Any]] = []
    for i in range(1 + N_KILLS):
        bench.reset(settings)
        command = bench.ours(n, concurrency, "killed", f"home-killed-{i}")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        n_answered = moments.randrange(n) if i else n // 2
        wait_until(lambda n_answered=n_answered: bench.stats()["distinct"] >= n_answered, process)
        time.sleep(moments.uniform(0.0, settings.latency_s) if i else 0.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: bench.stats()["in_flight"] == 0)
        n_bought = bench.stats()["distinct"]
        run_client(command)
        stats = bench.stats()
        rows.append(
            {
                "killed": f"at {n_answered} of {n}",
                "bought_by_then": n_bought,
                "bought_twice": stats["repeated"],
                "lost": n - read_manifest(bench.folder / "killed")["rows"]["out"],
                "same_bytes": content_hash(bench.folder / "killed") == expected,
            }
        )
    return rows


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait until it is so, or the process has ended."""
    deadline = time.monotonic() + 60
    while not reached() and (process is None or process.poll() is None):
        if time.monotonic() > deadline:
            raise SystemExit("the server did not come to where it was awaited within 60 s")
        time.sleep(0.005)


def reject(bench: Bench) -> list[dict[str, Any]]:
    """A server that rejects above half of what the client may have in flight."""
    rows: list[dict[str, Any]] = []
    for repeat in range(bench.repeats):
        bench.reset(Settings(latency_s=0.2, reject_over=32))
        usage = run_client(bench.ours(400, 64, "traces", f"home-reject-{repeat}"))
        stats = bench.stats()
        rows.append({"window_s": round(stats["window_s"], 2), "ideal_s": 2.5, "rejections": stats["rejected"]})
        rows[-1] |= {"distinct": stats["distinct"], "wall_s": round(usage.wall_s, 2)}
    return rows


def tail(bench: Bench) -> list[dict[str, Any]]:
    """Slow rows must not stop the others."""
    rows: list[dict[str, Any]] = []
    for repeat in range(bench.repeats):
        settings = Settings(slow_share=0.01, seed=repeat)
        ideal_s = makespan_s(islice(latencies(settings), 2000), 64)
        for name, command in {
            "bare loop": bench.bare(2000, 64),
            "datastill": bench.ours(2000, 64, "traces", f"home-tail-{repeat}"),
        }.items():
            bench.reset(settings)
            run_client(command)
            window_s = bench.stats()["window_s"]
            rows.append({"client": name, "window_s": round(window_s, 2), "ideal_s": round(ideal_s, 2)})
            rows[-1]["share_of_ideal"] = round(ideal_s / window_s, 3)
    return rows


def makespan_s(durations_s: Iterable[float], n_slots: int) -> float:
    """When the last ends where each starts, in order, as soon as a slot is free."""
    free_at = [0.0] * n_slots
    for duration_s in durations_s:
        heapq.heapreplace(free_at, free_at[0] + duration_s)
    return max(free_at)


CASES: dict[str, Case] = {"speed": speed, "kill": kill, "reject": reject, "tail": tail, "memory": memory}


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server that runs until the block ends."""
    command = [sys.executable, "-m", "benchmarks.traces_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def show(case: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print a case's table."""
    print(f"\n{case}\n" + "".join(f"{column:>18}" for column in rows[0]))
    for row in rows:
        print("".join(f"{cell!s:>18}" for cell in row.values()), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to use (default: here)")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-prompts", type=int, default=500_000)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="see above")
    options = parser.parse_args(argv)
    peers = {name: shlex.split(command) for name, _, command in (peer.partition("=") for peer in options.peer)}
    results: dict[str, Any] = {"benchmark": "traces", "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as folder, serving() as port:
        bench = Bench(port, Path(folder).resolve(), options.repeats, peers, options.memory_prompts)
        for case in options.only:
            rows = results[case] = CASES[case](bench)
            show(case, rows)
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    main()
