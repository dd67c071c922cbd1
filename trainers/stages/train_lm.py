"""Train a student: a language model learns the completions of verified traces."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import device_type
from datagen.contracts.dataset import content_hash, replace_directory
from datagen.contracts.errors import DataError
from datagen.contracts.stage import Run, Stage, main
from trainers.checkpoint import Checkpoints, checkpoint_key, code_hash
from trainers.device import check_device, check_packages, n_processes
from trainers.launch import launch
from trainers.loop import find_tracker
from trainers.supervised import Config, fit, parse


def run(run: Run) -> dict[str, Any]:
    """Write the student in transformers' format; go on from a checkpoint where an earlier run was killed."""
    config = run.params[Config]
    check_packages()
    check_device(run.name, needs_cuda=config.needs_cuda)
    find_tracker()
    traces = run.inputs["traces"]
    if not traces.exists():
        raise DataError(f"{traces}: no such file or dataset directory")
    section = run.params.values()
    processes = n_processes()
    code = Path(__file__).parents[2]
    facts = {
        "stage": run.name,
        "section": section,
        "inputs": {"traces": content_hash(traces)},
        "base": resolve_model(config.model).revision,
        "code": code_hash(code / "datagen", code / "trainers"),
        "torch": version("torch"),
        "device": device_type(),
        "n_processes": processes,
    }
    writing = run.out.with_name(f".{run.out.name}.writing")
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        arguments: dict[str, Any] = {
            "section": section,
            "traces": str(traces),
            "checkpoints": str(checkpoints.folder),
            "out": str(writing),
        }
        metrics = launch("trainers.supervised:fit", arguments, processes) if processes > 1 else fit(**arguments)
        replace_directory(writing, run.out)
        checkpoints.clear()
    return metrics


STAGE = Stage(
    name="train_lm",
    parse=parse,
    inputs={"traces": "dataset of Traces to learn from, .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
