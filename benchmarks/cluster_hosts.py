"""A stage on three hosts, one of which dies in the middle: the same bytes as in one process.

    python -m benchmarks.cluster_hosts [--rows N] [--out FILE.json]

A host is a network namespace with an address of its own and one worker of one thread, on a bridge where the scheduler
and the stage are. Needs root and iproute2. The verify stage judges N answers that only Math-Verify can compare; every
process of the third host is killed as soon as some of its answers are judged.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import psutil

from benchmarks.cluster import contents, verify_command
from datagen.contracts.cluster import ADDRESS
from datagen.contracts.dataset import write_json

BRIDGE, NETWORK, N_HOSTS = "datastill0", "10.213.7", 3
JUDGING_S = 2.0  # CPU of the third host's checks before it dies


def main(argv: Sequence[str] | None = None) -> int:
    """Print what came of it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", *verify_command(folder, arguments.rows), "--out"]
        environment = {key: value for key, value in os.environ.items() if key != ADDRESS}
        subprocess.run([*command, str(folder / "alone")], env=environment, check=True, capture_output=True)
        with hosts(folder) as (address, workers):
            stage = subprocess.Popen(
                [*command, str(folder / "hosts")], env=environment | {ADDRESS: address}, stderr=subprocess.DEVNULL
            )
            while (spent := _cpu_of_checks(workers[-1])) < JUDGING_S and stage.poll() is None:
                time.sleep(0.1)
            was_running = stage.poll() is None
            os.killpg(workers[-1].pid, signal.SIGKILL)
            code = stage.wait()
        result = {
            "benchmark": "cluster_hosts", "hosts": N_HOSTS, "rows": arguments.rows, "exit_code": code,
            "killed_in_the_middle": was_running, "judging_s_of_the_killed": round(spent, 1),
            "same_bytes": contents(folder / "hosts") == contents(folder / "alone"),
        }  # fmt: skip
    print(result)
    if arguments.out:
        write_json(arguments.out, result)
    return 0


@contextlib.contextmanager
def hosts(folder: Path) -> Generator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """The scheduler's address, and each host's worker."""
    processes: list[subprocess.Popen[bytes]] = []
    names = [f"datastill-host-{i}" for i in range(1, N_HOSTS + 1)]
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://{NETWORK}.254:8786"

    def start(command: list[str]) -> None:
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True))

    try:
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("address", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        start([*dask, "scheduler", "--host", f"{NETWORK}.254", "--port", "8786", "--no-dashboard"])
        for i, name in enumerate(names, 1):
            _ip("netns", "add", name)
            _ip("link", "add", f"datastill{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", f"datastill{i}", "master", BRIDGE, "up")
            _ip("-n", name, "address", "add", f"{NETWORK}.{i}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            worker = [*dask, "worker", address, "--nthreads", "1", "--memory-limit", "2GiB", "--no-dashboard"]
            start(["ip", "netns", "exec", name, *worker, "--local-directory", str(folder / name)])
        yield address, processes[1:]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # a host that was killed
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _cpu_of_checks(worker: "subprocess.Popen[bytes]") -> float:
    """Seconds of CPU of the processes in which a host's answers are compared."""
    spent = 0.0
    for process in psutil.Process(worker.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "datagen.verify" in " ".join(process.cmdline()):
                spent += process.cpu_times().user
    return spent


if __name__ == "__main__":
    raise SystemExit(main())
