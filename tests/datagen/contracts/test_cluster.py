import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from datagen.contracts.cluster import ADDRESS, CHUNKS_A_THREAD, in_chunks, map_chunks
from datagen.contracts.errors import BackendError, DataError
from tests import cluster_work
from tests.dask_processes import a_cluster


@pytest.fixture(autouse=True, scope="module")
def dask_is_here(needs: Callable[..., None]) -> None:
    needs(module="distributed", remedy="pip install 'datastill[scale]'")


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A cluster of two workers, as the environment names it."""
    with a_cluster(tmp_path, 2) as cluster:
        monkeypatch.setenv(ADDRESS, cluster.address)
        yield


def test_chunks_hold_every_row_once_and_in_order() -> None:
    assert list(in_chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_chunks([], 3)) == []


def test_without_a_cluster_a_chunk_is_done_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(3):
            read.append(number)
            yield number

    pids = map_chunks(cluster_work.whose, numbers())
    assert next(pids) == (0, os.getpid())
    assert read == [0]


@pytest.mark.usefixtures("two_workers")
def test_results_come_in_order_from_processes_of_their_own_and_few_chunks_are_read_ahead() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(40):
            read.append(number)
            yield number

    results = map_chunks(cluster_work.whose, numbers())
    _, pid = next(results)
    assert len(read) == 2 * CHUNKS_A_THREAD
    seen = {pid} | {pid for _, pid in results}
    assert len(seen) == 2
    assert os.getpid() not in seen
    chunks = in_chunks(range(1000), 7)
    assert [one for _, some in map_chunks(cluster_work.squares, chunks) for one in some] == [n * n for n in range(1000)]


@pytest.mark.usefixtures("two_workers")
def test_a_worker_that_dies_changes_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    assert list(map_chunks(partial(cluster_work.die_once, str(marker)), range(20))) == [(i, i) for i in range(20)]
    assert marker.exists()


@pytest.mark.usefixtures("two_workers")
def test_a_chunk_that_ends_every_worker_is_an_error_that_says_so() -> None:
    with pytest.raises(BackendError, match=r"3 workers died while they had the same chunk.*--memory-limit"):
        list(map_chunks(cluster_work.die, [1]))


@pytest.mark.usefixtures("two_workers")
def test_what_a_function_raises_is_raised_here() -> None:
    with pytest.raises(DataError, match="row 3: not one of ours"):
        list(map_chunks(cluster_work.refuse, [3]))


def test_workers_that_are_started_here_end_with_the_run() -> None:
    # in a process of its own, since Python's keeper of shared memory stays with whoever starts others
    script = """
import os
from datagen.contracts.cluster import map_chunks
from tests import cluster_work
if __name__ == "__main__":
    pids = {pid for _, pid in map_chunks(cluster_work.whose, range(20))}
    print(len(pids), os.getpid() in pids, *pids)
"""
    environment = os.environ | {ADDRESS: "local", "DATASTILL_WORKERS": "2", "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    n_pids, is_ours, *pids = run.stdout.split()
    assert (n_pids, is_ours) == ("2", "False")
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    dask: Any = importlib.import_module("dask")
    monkeypatch.setenv(ADDRESS, "tcp://127.0.0.1:9")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(BackendError, match=r"no scheduler at 'tcp://127\.0\.0\.1:9'.*dask scheduler"),
    ):
        list(map_chunks(cluster_work.squares, [[1]]))


def test_a_scheduler_with_three_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_cluster(tmp_path, 3) as cluster:
        monkeypatch.setenv(ADDRESS, cluster.address)
        assert list(map_chunks(partial(cluster_work.die_once, str(tmp_path / "died")), range(20))) == [
            (i, i) for i in range(20)
        ]
        assert (tmp_path / "died").exists()


def test_workers_with_other_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("datagen", tmp_path / "datagen", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "datagen/verify/votes.py").open("a") as file:
        file.write("# another version\n")
    with a_cluster(tmp_path, 1, code=tmp_path) as cluster:
        monkeypatch.setenv(ADDRESS, cluster.address)
        with pytest.raises(BackendError, match=r"1 of 1 workers of .* have another datastill"):
            list(map_chunks(cluster_work.squares, [[1]]))
