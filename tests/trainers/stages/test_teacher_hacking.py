"""Oracles: the curves that the library gives for the same seeds, and a second run's bytes."""

import json
from pathlib import Path

import polars as pl
import pytest

from datagen.contracts.dataset import read_manifest
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import main
from tests.trained import contents
from trainers.hacking.setting import Config
from trainers.hacking.tabular import curve
from trainers.stages.teacher_hacking import STAGE

SMALL = ["n_steps=100", "n_held_out=4", "n_features=8", "seeds=2"]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def test_curves_are_rows_and_runs_are_alike(tmp_path: Path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        metrics = folder.with_suffix(".json")
        assert main(STAGE, ["--out", str(folder), "--metrics", str(metrics), "--set", *SMALL]) == 0
    assert contents(folders[0]) == contents(folders[1])
    expected = curve(
        Config.model_validate({"n_steps": 100, "n_held_out": 4, "n_features": 8}), derive_seed(0, "world", 1)
    )
    rows = pl.read_parquet(folders[0] / "part-*.parquet").filter(seed=1)
    assert rows.select("step", "train_proxy", "proxy", "golden").rows() == [tuple(point) for point in expected]
    plotted = json.loads((folders[0] / "curves.json").read_text())
    assert [row["step"] for row in plotted] == [point.step for point in expected]
    stated = json.loads((tmp_path / "one.json").read_text())
    assert stated["n_seeds"] == 2 and stated["rows"]["out"] == 2 * len(expected)
    assert read_manifest(folders[0])["by_seed"][1]["golden_end"] == expected[-1].golden


@pytest.mark.parametrize(
    ("setting", "says"),
    [("n_prompts=0", "n_prompts: Input should be greater than or equal to 1"), ("fresh=all", "fresh: Input should be"),
     ("n_steps=5", "n_steps: Input should be greater than or equal to 100")],
)  # fmt: skip
def test_what_cannot_be_run_is_said(setting: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(STAGE, ["--out", str(tmp_path / "out"), "--set", setting]) == 2
    assert says in capsys.readouterr().err
