"""What every training has in common: it goes on where it was killed, and ends as one folder.

A stage calls `train_once`, which runs a `fit` in one process or several, beside the output's place until it is
complete. A `fit` calls the rest.
"""

import importlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from datagen.backends.models import Model, resolve_model
from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, checkpoint_key, code_hash
from datagen.contracts.dataset import content_hash, replace_directory, write_json
from datagen.contracts.errors import DataError
from datagen.contracts.launch import launch, n_processes
from datagen.contracts.licences import of_folder
from datagen.contracts.records import Rejection, to_row
from datagen.contracts.stage import PACKAGES, Progress, Run
from trainers import loop
from trainers.device import check_device, check_packages
from trainers.loop import Row
from trainers.sharded import is_wanted
from trainers.tracking import find_tracker

if TYPE_CHECKING:  # a stage reads a Config without torch
    import torch

    from trainers.objectives import SumCount

_CODE = Path(__file__).parents[1]


def check_before_training(run: Run, *, needs_cuda: bool = False) -> None:
    """Fail before any work where the machine or an input lacks something.

    Raises:
        MissingError: a package or the device.
        ParamsError: the tracker's name.
        DataError: an input.
    """
    check_packages()
    check_device(run.name, needs_cuda=needs_cuda)
    find_tracker()
    is_wanted()
    for path in run.inputs.values():
        if not path.exists():
            raise DataError(f"{path}: no such file or dataset directory")


def facts_of_several(run: Run, params: Mapping[str, Any], models: Iterable[str]) -> dict[str, Any]:
    """What the checkpoints of a stage that trains several language models depend on; `models` are all that it reads."""
    return {
        "stage": run.name,
        "section": params,
        "inputs": {name: content_hash(path) for name, path in sorted(run.inputs.items())},
        "models": {name: resolve_model(name).revision for name in sorted(models)},
        "code": code_hash(*(_CODE / package for package in PACKAGES)),
        "torch": version("torch"),
        "device": device_type(),
    }


def train_once(run: Run, fit: str, base: str, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Write the student; go on from a checkpoint where an earlier run was killed.

    Args:
        run: of the stage.
        fit: `module:name` of a function of `section`, each of the run's inputs by name, `checkpoints` and `out`.
        base: revision of the model that training starts from.
        packages: that networks are made of beside torch, installed; a checkpoint of another version of theirs or of
            torch is left alone.

    Returns:
        What `fit` returns.
    """
    section = run.params.values()
    processes = n_processes()
    facts = {
        "stage": run.name,
        "section": section,
        "inputs": {name: content_hash(path) for name, path in sorted(run.inputs.items())},
        "base": base,
        "code": code_hash(*(_CODE / package for package in PACKAGES)),
        **{package: version(package) for package in ("torch", *packages)},
        "device": device_type(),
        "n_processes": processes,
        **({"sharded": True} if is_wanted() else {}),
    }
    writing = run.out.with_name(f".{run.out.name}.writing")
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        arguments: dict[str, Any] = {
            "section": run.params.values(connection=True),
            **{name: str(path) for name, path in run.inputs.items()},
            "checkpoints": str(checkpoints.folder),
            "out": str(writing),
        }
        if processes > 1:
            metrics = launch(fit, arguments, processes)
        else:
            module, name = fit.split(":")
            metrics = getattr(importlib.import_module(module), name)(**arguments)
        replace_directory(writing, run.out)
        checkpoints.clear()
    return metrics


def train_shown(
    stage: str,
    model: "torch.nn.Module",
    rows: Sequence[Row],
    loss: "Callable[[torch.nn.Module, Sequence[Row], torch.device], SumCount]",
    config: loop.Config,
    checkpoints: str,
    *,
    is_main: bool,
    state: loop.State | None = None,
    renew: "Callable[[torch.nn.Module, Sequence[Row], int], Sequence[Row]] | None" = None,
    judge: "Callable[[torch.nn.Module], float] | None" = None,
) -> list[dict[str, Any]]:
    """`loop.train`, with its progress shown by the main process."""
    bar = Progress(stage, loop.n_steps(config, len(rows)), "steps") if is_main else None

    def advance(record: Mapping[str, Any]) -> None:
        if bar:
            bar.advance(1, note=f"loss {record['loss']:.3f}")

    records = loop.train(
        model, rows, loss, config, Checkpoints(Path(checkpoints)), advance, state=state, renew=renew, judge=judge
    )
    if bar:
        bar.close()
    return records


def losses(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of steps, loss of the first and of the last epoch."""
    last_epoch = [record for record in records if record["epoch"] == records[-1]["epoch"]]
    return {
        "n_steps": len(records),
        "loss_first_step": records[0]["loss"],
        "loss_last_epoch": sum(r["loss"] * r["count"] for r in last_epoch) / sum(r["count"] for r in last_epoch),
    }


def count_reasons(rejections: Sequence[Rejection]) -> dict[str, int]:
    """Number of rows by reason, in the reasons' order."""
    return dict(sorted(Counter(row.reason for row in rejections).items()))


def check_usable(
    path: str, rejections: Sequence[Rejection], n_rows: int, bound: float, not_needed: frozenset[str]
) -> None:
    """Fail where too large a share of the rows cannot be used.

    Args:
        path: of the rows.
        rejections: of them.
        n_rows: of all.
        bound: the share that is allowed.
        not_needed: reasons that do not say that a row cannot be used.

    Raises:
        DataError: with the first such row.
    """
    unusable = [row for row in rejections if row.reason not in not_needed]
    if len(unusable) > bound * n_rows:
        first = unusable[0]
        raise DataError(
            f"{path}: {len(unusable)} of {n_rows} rows cannot be used, max_rejected_share is {bound}; "
            f"the first is {first.id!r}: {first.reason}: {first.detail}"
        )


def provenance(base: Model) -> dict[str, Any]:
    """Name, revision and licence of the model that the student starts from."""
    stated = base.folder / "provenance.json"
    licence = json.loads(stated.read_text()).get("licence") if stated.is_file() else None
    return {"name": base.name, "revision": base.revision, "licence": licence or of_folder(base.folder)}


def write_student(
    out: Path,
    model: Any,
    tokenizer: Any,
    base: Model,
    records: Sequence[Mapping[str, Any]],
    rejections: Sequence[Rejection],
    manifest: Mapping[str, Any],
) -> None:
    """The folder: model and tokenizer as transformers writes them, loss.json, rejections.parquet, manifest.json."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if (base.folder / "LICENSE").is_file():
        shutil.copyfile(base.folder / "LICENSE", out / "LICENSE")
    write_json(out / "loss.json", list(records))
    rows = pl.DataFrame([to_row(row) for row in rejections], schema=Rejection.SCHEMA, orient="row")
    rows.write_parquet(out / "rejections.parquet", compression="zstd")
    files = {file.name: content_hash(file) for file in sorted(out.iterdir())}
    stated = {"format": "datastill", "base": provenance(base)}
    write_json(out / "manifest.json", {**stated, **manifest, "files": files})
