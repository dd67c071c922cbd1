import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pytest import approx

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import MissingError, ParamsError
from tests.regression import ROWS, config, line, squares
from trainers.loop import train
from trainers.tracking import find_tracker


def test_trackers_that_cannot_serve_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_REPORT_TO", "tensorbored")
    with pytest.raises(ParamsError, match="expected none, trackio, wandb, mlflow"):
        find_tracker()
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    monkeypatch.setenv("DATASTILL_REPORT_TO", "wandb")
    with pytest.raises(MissingError, match="pip install wandb"):
        find_tracker()


def test_a_tracker_is_told_of_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]):
    """Oracle: the run that goes on, as MLflow's own client reads it from its files."""
    needs(module="mlflow", remedy="pip install 'datastill[trackers]'")
    mlflow: Any = import_module("mlflow")
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_REPORT_TO", "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def stop(record: Any) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        train(line(), ROWS, squares, config(epochs=4), checkpoints, stop)
    mlflow.end_run("KILLED")
    records = train(line(), ROWS, squares, config(epochs=4), checkpoints)
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'datastill'")
    (run,) = client.search_runs([experiment.experiment_id], filter_string="attributes.status = 'FINISHED'")
    history = sorted(client.get_metric_history(run.info.run_id, "loss"), key=lambda metric: metric.step)
    assert [(metric.step, metric.value) for metric in history] == [(r["step"], approx(r["loss"])) for r in records]
    assert [metric.step for metric in history] == [1, 2, 3, 4]
