"""The corpus command over HTTP: its speed beside what the server's latency allows, and what a kill costs.

    python -m benchmarks.synthesis_http [--out FILE.json] [--folder DIR] [--only CASE ...] [--rows N]

The server (benchmarks/traces_server.py) answers every request after the same time by an instance of its schema. Each
narrative is one actor, one utterance and so six calls, each of which needs the answer before it. Nothing is embedded:
`max_cosine=1 n_measured=0 unknown_labels=drop`. Cases:

    speed  N narratives of six steps, 64 calls at a time: requests * latency / 64 over the server's own window
    kill   96 narratives, 32 at a time, SIGKILL at random moments: answers bought twice, and the bytes
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.traces import Bench, run_client, serving, show, wait_until
from benchmarks.traces_server import Settings
from datagen.contracts.dataset import content_hash, read_manifest, write_json

N_KILLS = 10
METHOD = (
    "method=emo_pillars backend=openai_api model=mock n_actors=1 n_utterances=1 n_neutral=0 max_cosine=1 language=null "
    "n_measured=0 unknown_labels=drop window=512"
)


def corpus(bench: Bench, n: int, concurrency: int, out: str, home: str) -> list[str]:
    """The command that users run; its ledger is under `home`."""
    narratives = bench.folder / f"narratives-{n}.jsonl"
    if not narratives.exists():
        rows = ({"id": f"n{i}", "text": f"On day {i} the miller met a goose by the river."} for i in range(n))
        narratives.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *f"env DATASTILL_HOME={bench.folder / home} {sys.executable} -m datagen.stages.corpus".split(),
        *f"--narratives {narratives} --out {bench.folder / out} --concurrency {concurrency}".split(),
        *f"--set {METHOD} base_url={bench.base_url}".split(),
    ]


def speed(bench: Bench, n: int) -> list[dict[str, Any]]:
    """One run; the latency is short for a teacher, so what it leaves is an upper bound of what steps cost."""
    settings = Settings(latency_s=0.1)
    bench.reset(settings)
    usage = run_client(corpus(bench, n, 64, "speed", "home-speed"))
    stats = bench.stats()
    rows = read_manifest(bench.folder / "speed")["rows"]
    ideal_s = stats["requests"] * settings.latency_s / 64
    return [
        {
            "narratives": n,
            "requests": stats["requests"],
            "rows_out": rows["out"],
            "rejected": rows["rejected"],
            "window_s": round(stats["window_s"], 2),
            "ideal_s": round(ideal_s, 2),
            "share_of_ideal": round(ideal_s / stats["window_s"], 3),
            "cpu_s": round(usage.cpu_s, 1),
            "peak_mb": round(usage.peak_mb, 1),
        }
    ]


def kill(bench: Bench) -> list[dict[str, Any]]:
    """SIGKILL, then the same command to its end; `same bytes` compares with a run that nobody killed."""
    n, concurrency, settings = 96, 32, Settings()
    bench.reset(settings)
    run_client(corpus(bench, n, concurrency, "unbroken", "home-unbroken"))
    expected, n_calls = content_hash(bench.folder / "unbroken"), bench.stats()["requests"]
    moments = random.Random(0)
    rows: list[dict[str, Any]] = []
    for i in range(N_KILLS):
        bench.reset(settings)
        command = corpus(bench, n, concurrency, "killed", f"home-killed-{i}")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        n_answered = moments.randrange(n_calls)
        wait_until(lambda n_answered=n_answered: bench.stats()["distinct"] >= n_answered, process)
        time.sleep(moments.uniform(0.0, settings.latency_s))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: bench.stats()["in_flight"] == 0)
        run_client(command)
        same = content_hash(bench.folder / "killed") == expected
        stats = bench.stats()
        rows.append({"killed": f"at {n_answered} of {n_calls}", "bought_twice": stats["repeated"], "same_bytes": same})
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to use (default: here)")
    parser.add_argument("--only", nargs="+", choices=("speed", "kill"), default=("speed", "kill"))
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args(argv)
    results: dict[str, Any] = {"benchmark": "synthesis_http", "cpus": os.cpu_count(), "method": METHOD}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix=".benchmark-") as folder, serving() as port:
        bench = Bench(port, Path(folder).resolve(), 1, {}, 0)
        for case in options.only:
            rows = results[case] = speed(bench, options.rows) if case == "speed" else kill(bench)
            show(case, rows)
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    main()
