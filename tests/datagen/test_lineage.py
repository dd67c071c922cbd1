"""`datastill lineage`: the funnel of a small pipeline whose every row is known."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import content_hash
from datagen.contracts.stage import main
from datagen.stages.filter import STAGE as FILTER
from datagen.stages.select import STAGE as SELECT

DATASTILL = Path(sys.executable).with_name("datastill")


def lineage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DATASTILL, "lineage", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def steps(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    ran = lineage(folder, *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)["steps"]


@pytest.fixture
def data(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pipeline's data, to which stages may add."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    shutil.copytree(pipeline / "data", tmp_path / "data")
    return tmp_path / "data"


def test_a_student_leads_back_to_the_raw_rows(pipeline: Path):
    """By hand: 7 raw rows, 6 prompts, 18 attempts, of which 6 got no answer and 6 failed."""
    found = steps(pipeline, "models/student")
    assert [(step["dataset"], step["stage"]) for step in found] == [
        ("data/prompts", "prompts"), ("data/traces", "traces"), ("data/verified", "verify"),
        ("models/student", "train_lm"),
    ]  # fmt: skip
    assert [step["rows"] for step in found[:3]] == [
        {"in": 7, "out": 6, "rejected": 1}, {"in": 18, "out": 12, "rejected": 6}, {"in": 12, "out": 6, "rejected": 6},
    ]  # fmt: skip
    assert [step["rejected"] for step in found] == [{"empty_prompt": 1}, {"http_500": 6}, {"keywords:existence": 6}, {}]
    assert found[2]["inputs"] == {"traces": "data/traces"}
    assert found[2]["hashes"] == {"traces": content_hash(pipeline / "data" / "traces")}


def test_every_row_is_accounted_for_through_select_and_filter(data: Path):
    """What a stage dropped, and what it gave the next, adds up to what it read; the page shows the same."""
    select = ["--verified", str(data / "verified"), "--out", str(data / "selected"), "--set"]
    assert main(SELECT, [*select, "method=by_difficulty", "min_pass_rate=0.5"]) == 0
    short = ["--documents", str(data / "selected"), "--out", str(data / "short"), "--set", "field=answer"]
    assert main(FILTER, [*short, "method=length", "max_chars=60"]) == 0
    found = {step["stage"]: step for step in steps(data.parent, "data/short")}
    assert list(found) == ["prompts", "traces", "verify", "select", "filter"]
    assert found["select"]["rows"] == {"in": 12, "out": 6, "rejected": 6} == found["verify"]["rows"]
    assert found["filter"]["rows"]["in"] == found["select"]["rows"]["out"]
    assert found["filter"]["rejected"] == {"too_long": 6}
    for step in found.values():
        assert step["rows"]["in"] == step["rows"]["out"] + sum(step["rejected"].values())
    shown = lineage(data.parent, "data/short").stdout
    lines = [" ".join(line.lstrip("│├└─ ").split()) for line in shown.splitlines()]
    verify = lines.index("verify by instruction_constraints data/verified 12 in, 6 kept, 6 dropped")
    assert lines[verify + 1] == "6 50.0 % keywords:existence" and lines[-1] == "6 100.0 % too_long"


def test_what_is_not_here_is_said(data: Path):
    """The traces were deleted: the hash of what was read is all that is left."""
    hash = content_hash(data / "traces")
    shutil.rmtree(data / "traces")
    (step,) = steps(data.parent, "data/verified")
    assert (step["inputs"], step["hashes"]) == ({"traces": None}, {"traces": hash})
    assert f"made of traces {hash[:12]}…, no dataset here" in lineage(data.parent, "data/verified").stdout


def test_a_manifest_without_counts_is_counted(data: Path):
    manifest = json.loads((data / "verified" / "manifest.json").read_text())
    del manifest["rows"], manifest["rejected"]
    (data / "verified" / "manifest.json").write_text(json.dumps(manifest))
    step = steps(data.parent, "data/verified")[-1]
    assert step["rows"] == {"in": 12, "out": 6, "rejected": 6} and step["rejected"] == {"keywords:existence": 6}


def test_datasets_beside_it_are_found_without_data(data: Path):
    data.rename(data.parent / "elsewhere")
    found = steps(data.parent, "elsewhere/verified")
    assert [step["dataset"] for step in found] == ["elsewhere/prompts", "elsewhere/traces", "elsewhere/verified"]


def test_a_folder_that_no_stage_wrote_is_an_error(tmp_path: Path):
    ran = lineage(tmp_path, "nothing")
    assert ran.returncode == 3 and "not a dataset directory" in ran.stderr
