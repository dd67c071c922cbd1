"""The stage `select`. Oracles: verify itself at the other threshold; rows whose scores are written by hand."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from datagen.contracts.dataset import content_hash, read_manifest
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.stage import main
from datagen.stages.filter import STAGE as FILTER
from datagen.stages.select import STAGE
from datagen.stages.verify import STAGE as VERIFY
from datagen.verify import judge

REFERENCE = "river bank bridge water"
ANSWERS = {  # token F1 with the reference of four words, by hand: 2 * overlap / (words + 4)
    "a": ["river bank bridge water", "river bank", "sand"],  # 1, 2/3, 0
    "b": ["river", "sand", "river bank bridge"],  # 2/5, 0, 6/7
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Three attempts at each of two prompts, and a line that is not JSON before the last attempt."""
    rows = [
        {"id": f"{prompt}#{i}", "prompt_id": prompt, "prompt": prompt, "completion": text, "reference": REFERENCE}
        for prompt, texts in ANSWERS.items()
        for i, text in enumerate(texts)
    ]  # fmt: skip
    lines = [json.dumps(row) + "\n" for row in rows]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join([*lines[:-1], "{broken\n", lines[-1]]))
    return path


def verify(traces: Path, out: Path, *settings: str) -> Path:
    fixed = ["method=short_answer", "measure=f1", "max_rejected_share=0.5"]
    assert main(VERIFY, ["--traces", str(traces), "--out", str(out), "--set", *fixed, *settings]) == 0
    return out


def select(verified: Path, out: Path, *settings: str) -> int:
    arguments = ["--verified", str(verified), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(STAGE, [*arguments, "--set", "method=by_threshold", *settings])


def table(directory: Path, pattern: str = "part-*.parquet") -> list[dict[str, Any]]:
    return pl.read_parquet(directory / pattern).to_dicts()


def reasons(directory: Path) -> set[tuple[str, str, str]]:
    return {(row["id"], row["reason"], row["detail"]) for row in table(directory, "rejections.parquet")}


@pytest.mark.parametrize("first", ["threshold=0", "threshold=0.5", "threshold=1", "min_agreement=2"])
@pytest.mark.parametrize("then", [["threshold=0.4"], ["threshold=0.7"], ["threshold=0.4", "min_agreement=2"]])
def test_another_threshold_gives_what_verify_would(tmp_path: Path, traces: Path, first: str, then: list[str]):
    """Rows, tables and reasons are those of verify at the other threshold, whatever it was first; so is its count."""
    direct = verify(traces, tmp_path / "direct", *then)
    judged = verify(traces, tmp_path / "judged", first)
    before = content_hash(judged)
    assert select(judged, tmp_path / "out", *then) == 0
    for name in ("part-00000.parquet", "rejected.parquet", "verdicts.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (direct / name).read_bytes()
    assert reasons(tmp_path / "out") == reasons(direct)
    assert {row["stage"] for row in table(tmp_path / "out", "rejections.parquet")} <= {"select", "verify"}
    assert read_manifest(tmp_path / "out")["rows"] == read_manifest(direct)["rows"]
    assert content_hash(judged) == before


def test_it_can_be_selected_from_again(tmp_path: Path, traces: Path):
    """What the first selection dropped is there for the second."""
    judged = verify(traces, tmp_path / "judged")
    assert select(judged, tmp_path / "one", "threshold=1") == 0
    assert select(tmp_path / "one", tmp_path / "two", "threshold=0.4") == 0
    assert select(judged, tmp_path / "once", "threshold=0.4") == 0
    assert [row["id"] for row in table(tmp_path / "two")] == ["a#0", "a#1", "b#0", "b#2"]
    for file in ("part-00000.parquet", "rejections.parquet", "scores.parquet"):
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "once" / file).read_bytes()


def test_scores_by_prompt(tmp_path: Path, traces: Path):
    """By hand: the scores 1, 2/3, 0 and 2/5, 0, 6/7."""
    assert select(verify(traces, tmp_path / "judged"), tmp_path / "out", "threshold=0.5") == 0
    a, b = table(tmp_path / "out", "scores.parquet")
    assert (a["prompt_id"], a["n_attempts"], a["n_passes"], a["pass_rate"]) == ("a", 3, 2, pytest.approx(2 / 3))
    assert (b["prompt_id"], b["n_attempts"], b["n_passes"]) == ("b", 3, 1)
    for row, scores in ((a, [1, 2 / 3, 0]), (b, [2 / 5, 0, 6 / 7])):
        mean = sum(scores) / 3
        std = (sum((score - mean) ** 2 for score in scores) / 3) ** 0.5
        assert (row["mean_score"], row["std_score"]) == (pytest.approx(mean), pytest.approx(std))
        assert row["cv"] == pytest.approx(std / mean)
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["prompts_that_pass"] == {"never": 0, "sometimes": 2, "always": 0}
    assert metrics["rows"] == {"in": 7, "out": 3, "rejected": 4}


def test_several_teachers_are_a_folder(tmp_path: Path, traces: Path, capsys: pytest.CaptureFixture[str]):
    """The attempts of both count together, each under its folder's name; equal ids are refused."""
    verify(traces, tmp_path / "by" / "one")
    verify(traces, tmp_path / "by" / "two")
    assert select(tmp_path / "by", tmp_path / "out") == 3
    assert "more than one trace 'a#0'" in capsys.readouterr().err.replace("b#0", "a#0")
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text(traces.read_text().replace("#", "#x"))
    verify(renamed, tmp_path / "by" / "two")
    assert select(tmp_path / "by", tmp_path / "out", "min_agreement=2") == 0
    assert [row["id"] for row in table(tmp_path / "out")] == ["a#0", "a#x0"]
    a, _ = table(tmp_path / "out", "scores.parquet")
    assert (a["n_attempts"], a["n_passes"]) == (6, 2)
    assert [(one["teacher"], one["n_attempts"], one["n_passes"]) for one in a["teachers"]] == [
        ("one", 3, 1),
        ("two", 3, 1),
    ]
    manifest = read_manifest(tmp_path / "out")
    assert manifest["inputs"] == {f"verified/{name}": content_hash(tmp_path / "by" / name) for name in ("one", "two")}


def test_rows_without_verdicts_are_refused(tmp_path: Path, traces: Path, capsys: pytest.CaptureFixture[str]):
    """A filter's output holds no score; a selection is made before it."""
    judged = verify(traces, tmp_path / "judged", "threshold=0")
    arguments = ["--documents", str(judged), "--out", str(tmp_path / "short"), "--set", "method=length", "min_words=1"]
    assert main(FILTER, arguments) == 0
    assert select(tmp_path / "short", tmp_path / "out") == 3
    assert "holds no verdicts" in capsys.readouterr().err
    assert select(tmp_path / "nothing", tmp_path / "out") == 3
    assert not (tmp_path / "out").exists()


def test_tables_that_do_not_belong_together_are_refused(
    tmp_path: Path, traces: Path, capsys: pytest.CaptureFixture[str]
):
    judged = verify(traces, tmp_path / "judged")
    rows = pl.read_parquet(judged / "rejected.parquet")
    rows.head(2).write_parquet(judged / "rejected.parquet")
    assert select(judged, tmp_path / "out") == 3
    assert "which has a verdict; run verify again" in capsys.readouterr().err
    rows.reverse().write_parquet(judged / "rejected.parquet")
    assert select(judged, tmp_path / "out") == 3
    assert "do not stand in one order" in capsys.readouterr().err


DVC = {
    "stages": {
        "traces": {
            "cmd": "python -m datagen.stages.traces --params params.yaml --prompts prompts.jsonl --out traces",
            "deps": ["prompts.jsonl"], "params": ["traces"], "outs": ["traces"],
        },
        "verify": {
            "cmd": "python -m datagen.stages.verify --params params.yaml --traces traces --out verified",
            "deps": ["traces"], "params": ["verify"], "outs": ["verified"],
        },
        "select": {
            "cmd": "python -m datagen.stages.select --params params.yaml --verified verified --out selected",
            "deps": ["verified"], "params": ["select"], "outs": ["selected"],
        },
    }
}  # fmt: skip


def test_under_dvc_another_threshold_runs_select_alone(tmp_path: Path):
    """A real repository of DVC: teacher and verifier are not run again, and the rows change."""
    params: dict[str, dict[str, Any]] = {
        "traces": {
            "backend": "scripted",
            "answers": ["river bank", "river bank bridge water"],
            "samples_per_prompt": 4,
        },
        "verify": {"method": "short_answer", "measure": "f1"},
        "select": {"method": "by_threshold", "threshold": 1.0},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(DVC))
    rows = [{"id": f"p{i}", "prompt": f"{i}?", "reference": REFERENCE} for i in range(4)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    root = Path(__file__).parents[3]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root),
        "DATASTILL_HOME": str(tmp_path / "home"), "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    dvc("init", "--no-scm", "--quiet")
    assert all(f"Running stage '{name}'" in (first := dvc("repro")) for name in ("traces",)) and "verify" in first
    strict = len(table(tmp_path / "selected"))
    params["select"]["threshold"] = 0.6
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    again = dvc("repro")
    assert [name for name in DVC["stages"] if f"Running stage '{name}'" in again] == ["select"]
    assert len(table(tmp_path / "selected")) == 16 > strict > 0


@pytest.mark.parametrize(("reference", "code"), [("7", "wrong_answer"), (None, "low_grade")])
def test_a_judge_s_verdict_at_another_threshold(reference: str | None, code: str):
    """As the judge documents its codes; what it could not read stays so."""
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "3 + 4?"}], reference=reference)
    trace = Trace(id="p#0", prompt=prompt, completion="7")
    passed = Verdict(id="p#0", method="judge", status="pass", score=0.75, detail="said so")
    failed = replace(passed, status="fail", reason=code)
    assert judge.at_threshold(trace, passed, 0.9) == failed and judge.at_threshold(trace, failed, 0.7) == passed
    unread = replace(passed, status="unparsed", score=0.0, reason="judges_disagree")
    assert judge.at_threshold(trace, unread, 0.0) == unread
