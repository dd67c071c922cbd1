"""Stages on a cluster write what they write in one process, whatever happens to a worker."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psutil
import pytest

from datagen.contracts.cluster import ADDRESS
from datagen.contracts.stage import main
from datagen.stages import filter, verify
from tests.dask_processes import Cluster, a_cluster
from tests.datagen.stages.conftest import write

SYMBOLIC = [
    {
        "id": f"row-{i}",
        "prompt": f"Expand {i}.",
        "completion": rf"\boxed{{x^2+{i}x+{i % 3}}}",
        "reference": f"x(x+{i})+{i % 2}",
    }
    for i in range(700)
]
WORDS = [f"word{i % 97}{'abcdefg'[i % 7]}" for i in range(5000)]
TEXTS = [{"id": f"text-{i}", "text": " ".join(WORDS[i % 300 : i % 300 + 40 + i % 2])} for i in range(1500)]
SHORT = [{"id": f"short-{i}", "text": " ".join(WORDS[i % 400 : i % 400 + 4])} for i in range(1100)]
ITEMS = [{"id": "item", "text": " ".join(WORDS[120:160])}, {"id": "short", "text": " ".join(WORDS[8:12])}]


@pytest.fixture(autouse=True, scope="module")
def dask_is_here(needs: Callable[..., None]) -> None:
    needs(module="distributed", remedy="pip install 'datastill[scale]'")


@pytest.fixture(scope="module")
def cluster(dask_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with a_cluster(tmp_path_factory.mktemp("dask"), 3) as cluster:
        yield cluster


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def kill_one_that_judges(workers: list[Any], killed: list[int]) -> None:
    """End a worker with its nanny as soon as a check runs in a process of its own."""
    while not killed:
        for worker in workers:
            processes = psutil.Process(worker.pid).children(recursive=True)
            if any("datagen.verify" in " ".join(process.cmdline()) for process in processes):
                os.killpg(worker.pid, signal.SIGKILL)
                killed.append(worker.pid)
                return
        time.sleep(0.05)


@pytest.mark.usefixtures("own_home")
def test_verify_with_a_worker_killed_in_the_middle(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write(tmp_path / "rows.jsonl", SYMBOLIC)
    command = ["--traces", str(rows), "--set", "method=math_answer", "--out"]
    assert main(verify.STAGE, [*command, str(tmp_path / "here")]) == 0
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_that_judges, args=(cluster.workers, killed), daemon=True)
    killer.start()
    monkeypatch.setenv(ADDRESS, cluster.address)
    assert main(verify.STAGE, [*command, str(tmp_path / "there")]) == 0
    killer.join(1)
    assert len(killed) == 1
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize(
    ("method", "rows", "against"),
    [
        (["near_duplicates"], TEXTS, False),
        (["semantic_duplicates", "threshold=0.95"], SHORT, False),
        (["decontamination"], TEXTS, True),
        (["decontamination", "by=embedding", "min_similarity=0.9"], SHORT, True),
    ],
    ids=["near_duplicates", "semantic_duplicates", "n_grams", "embedding"],
)
def test_filter(
    method: list[str],
    rows: list[dict[str, str]],
    against: bool,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = write(tmp_path / "texts.jsonl", rows)
    command = ["--documents", str(texts), "--set", f"method={method[0]}", *method[1:]]
    if against:
        command += ["--against", str(write(tmp_path / "items.jsonl", ITEMS))]
    assert main(filter.STAGE, [*command, "--out", str(tmp_path / "here")]) == 0
    monkeypatch.setenv(ADDRESS, cluster.address)
    assert main(filter.STAGE, [*command, "--out", str(tmp_path / "there")]) == 0
    here = contents(tmp_path / "here")
    assert "rejections.parquet" in here
    assert contents(tmp_path / "there") == here


@pytest.mark.usefixtures("own_home")
def test_a_method_that_looks_at_rows_together_says_that_it_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ADDRESS, "tcp://127.0.0.1:9")
    rows = write(tmp_path / "rows.jsonl", SYMBOLIC[:3])
    command = ["--traces", str(rows), "--set", "method=self_consistency", "--out", str(tmp_path / "out")]
    assert main(verify.STAGE, command) == 0
    assert "runs here and not on the cluster" in caplog.text
