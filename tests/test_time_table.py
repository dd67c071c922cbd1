"""Oracles: the table's own text and the pipeline's own stages; times by hand."""

import json
from pathlib import Path

import pytest

from benchmarks.time_table import JOBS, main, minutes_by_job, read_shares, table_of
from datagen.plan.pipeline import read_pipeline


def test_every_stage_counts_in_one_job_of_the_table(root: Path):
    steps = [step.name for step in read_pipeline(root / "dvc.yaml")]
    assert sorted(name for names in JOBS.values() for name in names) == sorted(steps)
    shares = read_shares((root / "docs" / "architecture.md").read_text())
    assert shares.keys() == JOBS.keys()
    assert 0 < sum(shares.values()) <= 15


def test_times_add_up_and_what_was_not_timed_is_named(root: Path, tmp_path: Path):
    """Traces took 9 minutes where the main job's share is 8, both sets of images one each."""
    for name, seconds in (("traces", 540), ("condense_images_trajectory_matching", 60), ("images", 60)):
        (tmp_path / f"{name}.run.json").write_text(json.dumps({"seconds": seconds}))
    minutes, untimed = minutes_by_job(read_pipeline(root / "dvc.yaml"), tmp_path)
    assert minutes == pytest.approx(dict.fromkeys(JOBS, 0.0) | {"main job": 9.0, "images": 2.0})
    assert "verify" in untimed and "report" not in untimed and "traces" not in untimed
    shares = dict.fromkeys(JOBS, 8.0)
    lines = table_of(minutes, shares).splitlines()
    assert [line.split()[0] for line in lines if line.endswith("over")] == ["main"]
    assert lines[-1].split() == ["all", "11.0", "15.0"]


def test_a_run_that_timed_nothing_is_no_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("dvc.yaml", "docs", "params.yaml"):
        (tmp_path / name).symlink_to(root / name)
    monkeypatch.chdir(tmp_path)
    assert main(["--no-bound"]) == 2
