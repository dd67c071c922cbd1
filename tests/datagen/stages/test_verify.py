import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from datagen.contracts.dataset import DatasetWriter, read_manifest
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.contracts.stage import main
from datagen.stages.verify import STAGE
from tests.datagen.stages.conftest import table, write

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

pytestmark = pytest.mark.usefixtures("own_home")


def verify(traces: Path, out: Path, *settings: str) -> int:
    arguments = ["--traces", str(traces), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(STAGE, [*arguments, "--set", "method=math_answer", *settings])


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


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
        # rows without a prompt_id are attempts at one prompt where their prompts are equal: 3 + 4 has one pass in three
        "pass_at_k": {
            "overall": {"1": {"rate": 0.6667, "prompts": 2}, "2": {"rate": 0.6667, "prompts": 1}},
            "by_family": {
                "algebra": {"1": {"rate": 1.0, "prompts": 1}},
                "sum": {"1": {"rate": 0.3333, "prompts": 1}, "2": {"rate": 0.6667, "prompts": 1}},
            },
        },
        # one wrong answer: there is no second to compare it with
        "lucky_passes": {
            "overall": {"expected": 0.0, "passes": 0, "share": 0.0, "prompts": 1, "not_estimated": 1},
            "by_family": {"sum": {"expected": 0.0, "passes": 0, "share": 0.0, "prompts": 1, "not_estimated": 1}},
        },
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


def write_traces(path: Path, method: str, completions: dict[str, list[str | None]], **marks: Any) -> Path:
    """A dataset as the traces stage writes it; None is an answer that it rejected. 3 + 4 is asked by every prompt."""
    manifest = {"stage": "traces", "method": method, "teacher": {"model": "tiny"}}
    with DatasetWriter(path, Trace, manifest) as writer:
        for prompt_id, given in completions.items():
            prompt = Prompt(id=prompt_id, messages=[{"role": "user", "content": "3 + 4?"}], reference="7", family="f")
            writer.read(len(given))
            for index, text in enumerate(given):
                id = f"{prompt_id}#{index}.{index:08x}"
                if text is None:
                    writer.reject(Rejection(id=id, stage="traces", reason="empty_answer", detail=""))
                else:
                    best = text in marks["best"] if "best" in marks else None
                    trace = Trace(id=id, prompt=prompt, sample_index=index, completion=text, teacher="tiny")
                    writer.write(replace(trace, score=0.5, best=best))
    return path


def test_agreement_of_attempts_can_be_required(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One of three passes at a, two at b: a's pass is dropped with its reason, and is still a pass in the figures."""
    traces = write_traces(tmp_path / "traces", "n_samples", {"a": ["7", "8", "9"], "b": ["7", "8", "7.0"]})
    assert verify(traces, tmp_path / "out", "min_agreement=2") == 0
    assert [row["id"][:3] for row in table(tmp_path / "out", "part-*.parquet")] == ["b#0", "b#2"]
    assert [(row["id"][:3], row["reason"]) for row in table(tmp_path / "out", "rejections.parquet")] == [
        ("a#0", "no_agreement"),
        ("a#1", "wrong_answer"),
        ("a#2", "wrong_answer"),
        ("b#1", "wrong_answer"),
    ]
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["pass_at_k"]["overall"]["1"] == {"rate": 0.5, "prompts": 2}
    assert metrics["status"] == {"pass": 3, "fail": 3}
    # by hand: of a's two wrong answers none are the same, b has one: 3 wrong answers at a factor of 0
    assert metrics["lucky_passes"]["overall"] == {"expected": 0.0, "passes": 3, "share": 0.0, "prompts": 2}
    apart = write(
        tmp_path / "apart.jsonl",
        [{**ROWS[0], "id": str(i), "prompt_id": id} for i, id in enumerate(("x", "y", "x"))],
    )
    assert verify(apart, tmp_path / "none", "min_agreement=2") == 3
    assert "attempts at the prompt 'x' stand apart" in capsys.readouterr().err


def test_attempts_that_stopped_on_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """pass@1 is of first attempts, 1 of 3, where 3 of 6 passed; an answer that traces rejected is one that failed."""
    traces = write_traces(tmp_path / "traces", "until_verified", {"a": ["7"], "b": ["8", "7"], "c": [None, "9", "7"]})
    assert verify(traces, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out.json").read_text())["pass_at_k"]["overall"]
    assert found == {"1": {"rate": 0.3333, "prompts": 3}, "2": {"rate": 0.6667, "prompts": 3}}
    assert verify(traces, tmp_path / "out2", "min_agreement=2") == 2
    assert "until_verified stops at the first pass" in capsys.readouterr().err


def test_only_the_best_are_kept_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Both right answers pass, one is marked; the other is rejected as `not_best`, and nothing is where none is."""
    traces = write_traces(tmp_path / "traces", "best_of_n", {"a": ["#### 7", "7", "8"]}, best=["7"])
    assert verify(traces, tmp_path / "all") == 0
    assert [row["completion"] for row in table(tmp_path / "all", "part-*.parquet")] == ["#### 7", "7"]
    assert [row["best"] for row in table(tmp_path / "all", "part-*.parquet")] == [False, True]
    assert verify(traces, tmp_path / "best", "keep=best") == 0
    assert [row["completion"] for row in table(tmp_path / "best", "part-*.parquet")] == ["7"]
    reasons = [(row["id"][:3], row["reason"]) for row in table(tmp_path / "best", "rejections.parquet")]
    assert reasons == [("a#0", "not_best"), ("a#2", "wrong_answer")]
    unmarked = write_traces(tmp_path / "unmarked", "n_samples", {"a": ["7"]})
    assert verify(unmarked, tmp_path / "none", "keep=best") == 3
    assert "keep=best needs traces by best_of_n" in capsys.readouterr().err


def test_what_is_left_after_verifying_says_nothing_of_a_rate(tmp_path: Path):
    traces = write_traces(tmp_path / "traces", "n_samples", {"a": ["7", "8"]})
    assert verify(traces, tmp_path / "out") == 0
    assert verify(tmp_path / "out", tmp_path / "again") == 0
    assert "pass_at_k" not in json.loads((tmp_path / "again.json").read_text())


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
            "method: no 'math_answers' in datagen.verify; there are by_row, code_execution, instruction_constraints, "
            "judge, math_answer, reward_model, self_consistency, short_answer",
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
