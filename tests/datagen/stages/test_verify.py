import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from datagen.contracts.dataset import read_manifest
from datagen.contracts.stage import main
from datagen.stages.verify import STAGE

ROWS = [
    {"id": "right", "prompt": "3 + 4?", "completion": "#### 7", "reference": "7", "family": "sum"},
    {"id": "wrong", "prompt": "3 + 4?", "completion": "#### 8", "reference": "7", "family": "sum"},
    {"id": "half", "prompt": "a half?", "completion": r"\boxed{\frac{1}{2}}", "reference": "0.5", "family": "algebra"},
    {"id": "silent", "prompt": "3 + 4?", "completion": "Well.", "reference": "7", "family": "sum"},
]
SYMBOLIC = {"id": "symbolic", "prompt": "expand", "completion": r"\boxed{x^2+x}", "reference": "x(x+1)"}
HANGS = {
    "id": "hangs",
    "prompt": "9?",
    "completion": r"\boxed{9^{9^{9^{9}}}}",
    "reference": "9^{9^9}",
}  # too long to write


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def verify(traces: Path, out: Path, *settings: str) -> int:
    arguments = ["--traces", str(traces), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(STAGE, [*arguments, "--set", "method=math_answer", *settings])


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def table(directory: Path, pattern: str) -> list[dict[str, Any]]:
    return pl.read_parquet(directory / pattern).to_dicts()


def test_every_row_ends_as_kept_or_rejected(tmp_path: Path):
    """Counted by hand: two right, one wrong, one silent, one line that is not JSON."""
    traces = write(tmp_path / "traces.jsonl", [ROWS[0], "{broken\n", *ROWS[1:]])
    out = tmp_path / "out"
    assert verify(traces, out, "max_rejected_share=0.5") == 0
    assert [row["id"] for row in table(out, "part-*.parquet")] == ["right", "half"]
    assert [(row["id"], row["status"], row["score"]) for row in table(out, "verdicts.parquet")] == [
        ("right", "pass", 1.0),
        ("wrong", "fail", 0.0),
        ("half", "pass", 1.0),
        ("silent", "unparsed", 0.0),
    ]
    assert [(row["id"], row["stage"], row["reason"]) for row in table(out, "rejections.parquet")] == [
        ("traces.jsonl:2", "verify", "malformed_json"),
        ("wrong", "verify", "wrong_answer"),
        ("silent", "verify", "no_answer"),
    ]
    assert [(row["id"], row["completion"]) for row in table(out, "rejected.parquet")] == [
        ("wrong", "#### 8"),
        ("silent", "Well."),
    ]
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "rows": {"in": 5, "out": 2, "rejected": 3},
        "rejected": {"malformed_json": 1, "wrong_answer": 1, "no_answer": 1},
        "verified_rate": 0.5,
        "verified_rate_by_family": {"algebra": 1.0, "sum": 0.3333},
        "status": {"pass": 2, "fail": 1, "unparsed": 1},
    }
    assert read_manifest(out)["rows"] == {"in": 5, "out": 2, "rejected": 3}


def test_its_own_output_and_parquet_are_inputs_too(tmp_path: Path):
    """A dataset directory, and the same rows in one Parquet file, verify as the rows they hold: all kept."""
    out = tmp_path / "out"
    assert verify(write(tmp_path / "traces.jsonl", ROWS), out) == 0
    assert verify(out, tmp_path / "again") == 0
    assert table(tmp_path / "again", "part-*.parquet") == table(out, "part-*.parquet")
    assert verify(out / "part-00000.parquet", tmp_path / "file") == 0
    assert [row["id"] for row in table(tmp_path / "file", "part-*.parquet")] == ["right", "half"]


def test_the_threshold_decides_what_is_kept(tmp_path: Path):
    """At 0 everything is; verdicts stay as they are."""
    traces = write(tmp_path / "traces.jsonl", ROWS)
    assert verify(traces, tmp_path / "out") == 0
    assert verify(traces, tmp_path / "all", "threshold=0") == 0
    assert [row["id"] for row in table(tmp_path / "all", "part-*.parquet")] == [row["id"] for row in ROWS]
    assert table(tmp_path / "all", "verdicts.parquet") == table(tmp_path / "out", "verdicts.parquet")


def test_too_many_errors_stop_the_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Two of three rows carry no reference: nothing is written where a bound is passed, else there are all verdicts."""
    rows = [ROWS[0], *({key: row[key] for key in ("id", "prompt", "completion")} for row in ROWS[1:3])]
    traces = write(tmp_path / "traces.jsonl", rows)
    assert verify(traces, tmp_path / "out", "max_error_share=0.6") == 3
    assert "2 of 3 traces could not be judged" in (message := capsys.readouterr().err)
    assert "'wrong': no reference" in message
    assert not (tmp_path / "out").exists()
    assert verify(traces, tmp_path / "out") == 0
    verdicts = {row["id"]: row["status"] for row in table(tmp_path / "out", "verdicts.parquet")}
    assert verdicts == {"right": "pass", "wrong": "error", "half": "error"}
    assert [row["reason"] for row in table(tmp_path / "out", "rejections.parquet")] == ["no_reference"] * 2


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One row hangs, the others need a worker or none."""
    rows = [{**row, "id": f"{row['id']}{i}"} for i in range(10) for row in (*ROWS, SYMBOLIC)]
    rows.insert(3, HANGS)
    traces = write(tmp_path / "traces.jsonl", rows)
    for n in ("1", "2"):
        monkeypatch.setenv("DATASTILL_WORKERS", n)
        assert verify(traces, tmp_path / n, "timeout_s=1") == 0
    assert files(tmp_path / "1") == files(tmp_path / "2")
    reasons = {row["id"]: row["reason"] for row in table(tmp_path / "1", "rejections.parquet")}
    assert reasons.pop("hangs") == "timeout"
    assert sorted(reasons) == sorted(f"{id}{i}" for i in range(10) for id in ("wrong", "silent"))


def test_a_killed_run_leaves_nothing_and_its_rerun_equals_an_unbroken_one(tmp_path: Path):
    """SIGKILL while a worker hangs on a row; psutil sees the processes."""
    traces = write(tmp_path / "traces.jsonl", [*ROWS, HANGS])
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "datagen.stages.verify", "--traces", str(traces), "--out", str(out)]
    settings = ["--set", "method=math_answer", "timeout_s=1"]
    stage = subprocess.Popen([*command, *settings], env=os.environ | {"DATASTILL_WORKERS": "2"})
    seen = psutil.Process(stage.pid)
    while not (workers := seen.children()):
        assert stage.poll() is None
        time.sleep(0.01)
    stage.kill()
    assert stage.wait() == -9
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
    assert not out.exists()
    assert subprocess.run([*command, *settings], check=False).returncode == 0
    assert verify(traces, tmp_path / "unbroken", *settings[2:]) == 0
    assert files(out) == files(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["method=math_answers"],
            "method: no 'math_answers' in datagen.verify; there are by_row, instruction_constraints, math_answer",
        ),
        (["method=math_answer", "treshold=0.5"], "treshold: unknown parameter; did you mean threshold?"),
        (["method=math_answer", "timeout_s=0"], "timeout_s: Input should be greater than 0"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
):
    traces = write(tmp_path / "traces.jsonl", ROWS)
    assert main(STAGE, ["--traces", str(traces), "--out", str(tmp_path / "out"), "--set", *settings]) == 2
    assert message in capsys.readouterr().err
