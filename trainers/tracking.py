"""Trackers: told of every step where `$DATASTILL_REPORT_TO` names one, offline and under the home folder.

Source: none; accelerate talks to them.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.home import home

if TYPE_CHECKING:
    from accelerate import Accelerator

TRACKERS = ("trackio", "wandb", "mlflow")


def start_tracker(accelerator: "Accelerator", config: Mapping[str, Any]) -> None:
    """Begin a run of the accelerator's tracker, if it has one."""
    if not accelerator.log_with:
        return
    folder = home() / "trackers"
    offline = {
        "TRACKIO_DIR": folder / "trackio",
        "WANDB_MODE": "offline",
        "WANDB_DIR": folder,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in offline.items():
        os.environ.setdefault(name, str(value))
    accelerator.init_trackers("datastill", dict(config))


def track(accelerator: "Accelerator", record: Mapping[str, Any]) -> None:
    """Tell the tracker of a step, of those before the checkpoint too: a run that goes on is a new one to it."""
    told = {name: value for name, value in record.items() if name not in ("step", "epoch", "count")}
    accelerator.log(told, step=record["step"])


def find_tracker() -> str:
    """`$DATASTILL_REPORT_TO`: `none`, the default, or a tracker, which then keeps its files under the home folder.

    Raises:
        ParamsError: it names no tracker.
        MissingError: the tracker's package is not installed.
    """
    name = os.environ.get("DATASTILL_REPORT_TO") or "none"
    if name != "none" and name not in TRACKERS:
        raise ParamsError(f"$DATASTILL_REPORT_TO: expected none, {', '.join(TRACKERS)} (got {name!r})")
    if name != "none" and find_spec(name) is None:
        raise MissingError(f"$DATASTILL_REPORT_TO is {name}, which is not installed: `pip install {name}`, or unset it")
    return name
