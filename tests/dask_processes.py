"""A cluster as a user starts one: a scheduler and workers, each a process of its own."""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import wait_until


@dataclass(frozen=True)
class Cluster:
    address: str
    workers: list["subprocess.Popen[bytes]"]


@contextmanager
def a_cluster(folder: Path, n_workers: int, code: Path | None = None) -> Generator[Cluster]:
    """All of its workers are there; `code` is the folder that they import from, the repository's where it is None."""
    distributed: Any = importlib.import_module("distributed")  # an extra, without types
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    worker = ["worker", *common, "--nthreads", "1", "--memory-limit", "2GiB", "--local-directory", str(folder)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in [["scheduler", *common, "--port", "0"], *[worker] * n_workers]:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *command],
                    cwd=code, stderr=(folder / "log").open("ab"), start_new_session=True,
                    env=os.environ | {"PYTHONPATH": str(code or Path.cwd())},
                )
            )  # fmt: skip
            assert wait_until(file.exists, 60)
        address = json.loads(file.read_text())["address"]
        if n_workers:
            with distributed.Client(address) as client:
                client.wait_for_workers(n_workers, timeout=60)
        yield Cluster(address, processes[1:])
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
