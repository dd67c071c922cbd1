"""Fresh students, one for each seed: each is trained or, where an earlier run finished it, read; all end as one folder.

Source: none; what students of images and of graphs have in common.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any

from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.errors import DataError
from trainers import loop
from trainers.steps import Position
from trainers.students import train_shown

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from trainers.objectives import SumCount


def train_or_read(
    stage: str,
    student: int,
    net: "torch.nn.Module",
    rows: Sequence[Position],
    loss: "Callable[[torch.nn.Module, Sequence[Position], torch.device], SumCount]",
    config: loop.Config,
    checkpoints: str,
    *,
    is_main: bool,
    judge: "Callable[[torch.nn.Module], float] | None" = None,
) -> list[dict[str, Any]]:
    """Give a fresh net the weights of its student, and return the records of its steps.

    Args:
        stage: for the progress bar.
        student: its number.
        net: changed in place.
        rows: as `loop.train` takes them, likewise `loss` and `config`.
        loss: see there.
        config: see there.
        checkpoints: folder of all students' checkpoints; finished ones are kept there.
        is_main: whether this process writes.
        judge: as `loop.train` takes it.

    Raises:
        DataError: the student diverged.
    """
    from safetensors.torch import load_file

    done = Path(checkpoints) / f"student-{student}.safetensors"
    if done.exists():
        net.load_state_dict(load_file(done))
        return json.loads(done.with_suffix(".json").read_text())
    records = train_shown(
        stage, net, rows, loss, config, str(Path(checkpoints) / f"of-{student}"), is_main=is_main, judge=judge
    )
    for record in records:
        if not math.isfinite(record["loss"]):
            raise DataError(
                f"student {student} diverged: its loss is {record['loss']} at step {record['step']}; set a "
                f"learning_rate below {config.learning_rate:g}"
            )
    _keep(net, records, done, is_main=is_main)
    return records


def write_students(
    out: Path,
    kept: Path,
    curves: list[dict[str, Any]],
    manifest: Mapping[str, Any],
    arrays: "Mapping[str, Mapping[str, NDArray[Any]]]",
) -> None:
    """The folder: every student, `arrays` by the name of their file, loss.json, manifest.json.

    What was kept in case of a kill goes.
    """
    from safetensors.numpy import save_file

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for student in sorted(kept.glob("student-*.safetensors")):
        shutil.move(student, out / student.name)
    for name, some in arrays.items():
        save_file(dict(some), out / f"{name}.safetensors")
    write_json(out / "loss.json", curves)
    files = {file.name: content_hash(file) for file in sorted(out.iterdir())}
    write_json(out / "manifest.json", {**manifest, "files": files})
    for left in kept.glob("student-*.json"):
        left.unlink()
    for left in kept.glob("of-*"):
        shutil.rmtree(left)


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, t-interval over seeds where there are two or more, and each seed's; rounded to 4 digits."""
    from trainers.comparison_figures import mean_interval

    mean, low, high = mean_interval(values) if len(values) > 1 else (values[0], None, None)
    ends = {} if low is None or high is None else {"low": round(low, 4), "high": round(high, 4)}
    return {"mean": round(mean, 4), **ends, "by_seed": [round(one, 4) for one in values]}


def with_std(values: Sequence[float]) -> dict[str, Any]:
    """`summary`, and the standard deviation over seeds, of one less than there are; null of one seed."""
    return summary(values) | {"std": round(stdev(values), 4) if len(values) > 1 else None}


def _keep(net: "torch.nn.Module", records: Sequence[Mapping[str, Any]], done: Path, *, is_main: bool) -> None:
    """A finished student; the weights come last, so that a kill leaves no student without its records."""
    from safetensors.torch import save_file

    if is_main:
        write_json(done.with_suffix(".json"), list(records))
        writing = done.with_name(f".{done.name}")
        save_file({name: one.cpu().contiguous() for name, one in net.state_dict().items()}, writing)
        writing.rename(done)
