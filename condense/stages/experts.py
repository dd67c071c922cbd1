"""Train experts on an image set and keep their parameters after every epoch, for condensed sets to follow.

--images is a dataset of Images or an .npz file with `image` and `label`. The output holds a file an expert, the
transform of the images, and a manifest (condense/trajectories.py). Experts are trained one after another, in
$DATASTILL_PROCESSES processes under torchrun, or over the workers of dask.distributed ($DASK_SCHEDULER_ADDRESS); what
each becomes depends on the seed and its number alone. Those that a killed run had finished are not trained again.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.contracts.checkpoint import Checkpoints, checkpoint_key, code_hash
from datagen.contracts.cluster import map_chunks
from datagen.contracts.dataset import replace_directory
from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.launch import launch, n_processes
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.stage import Run, Stage, load_method, log, main

if TYPE_CHECKING:
    from condense.experts._training import Plan
    from condense.pixels.transform import Transform
    from datagen.contracts.images import ImageSet

DEFAULT_METHOD = "sgd"
_CODE = Path(__file__).parents[2]


class Config(Params):
    """Which experts, and how many. Defaults are those of arXiv:2203.11932's code.

    Attributes:
        method: of `condense.experts`.
        net: its name, as `condense.nets.opening` reads it; of a normalisation without state.
        width: where the name has none.
        n_trajectories: number of experts.
        transform: of the pixels, fitted on these images.
        n_threads: on the CPU, where rounding depends on it.
        seed: of weights, order and augmentation, each with the expert's number.
    """

    method: str = DEFAULT_METHOD
    net: str = "convnet3"
    width: int = Field(128, ge=1)
    n_trajectories: int = Field(100, ge=1)
    transform: Literal["standard", "zca"] = "standard"
    n_threads: int = Field(2, ge=1)
    seed: int = 0


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    return validate({**section, "method": name}, Config, load_method("condense.experts", name).Config)


def run(run: Run) -> dict[str, Any]:
    """Write the trajectories."""
    _check_packages()
    from condense.experts._training import Plan
    from condense.nets.flat import FlatNet
    from condense.nets.opening import open_net
    from condense.pixels.transform import fit_transform
    from condense.trajectories import part, write_trajectories
    from datagen.backends.transformers_models import device_type
    from datagen.contracts.images import check_classes, read_images

    config, path = run.params[Config], run.inputs["images"]
    method = run.params[load_method("condense.experts", config.method).Config]
    if method.precision == "tf32" and device_type() != "cuda":
        raise ParamsError("precision: tf32 is CUDA's, and experts are trained on the CPU; take float32 or bfloat16")
    images = read_images(path)
    check_classes(images, path, 1)
    transform = fit_transform(images, config.transform)
    net = FlatNet(open_net(config.net, images.shape, len(images.classes), width=config.width, seed=0))
    section = {name: value for name, value in run.params.values().items() if name != "n_trajectories"}
    made = made_of({"images": path})
    facts = {
        "stage": run.name,
        "section": section,
        "inputs": made["inputs"],
        "code": code_hash(_CODE / "condense", _CODE / "datagen" / "contracts"),
        "torch": version("torch"),
        "device": device_type(),
    }
    names = [part(index) for index in range(config.n_trajectories)]
    n_right: dict[str, int] = {}
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints, run.progress(config.n_trajectories, "experts") as bar:
        missing = [i for i, name in enumerate(names) if not (checkpoints.folder / name).is_file()]
        if len(missing) < len(names):
            log.info("%s: %d experts of an earlier run are kept", run.name, len(names) - len(missing))
            bar.advance(len(names) - len(missing))
        start = time.monotonic()
        plan = Plan(
            method=config.method, settings=method, net=config.net, width=config.width, seed=config.seed,
            n_threads=config.n_threads,
        )  # fmt: skip

        def advance() -> None:
            bar.advance(1, note=lambda: f"{(time.monotonic() - start) / 60:.1f} min")

        _train(plan, images, path, transform, checkpoints.folder, missing, advance)
        if missing:
            run.facts["n_trained"] = len(missing)
            run.facts["seconds_an_epoch"] = round((time.monotonic() - start) / len(missing) / method.epochs, 4)
        writing = run.out.with_name(f".{run.out.name}.writing")
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        for name in names:
            n_right[name] = _take(checkpoints.folder / name, writing / name)
        accuracy = [n / len(images) for n in n_right.values()]
        stated = {
            "stage": run.name,
            "method": config.method,
            "params": run.params.values(),
            **made,
            "net": config.net,
            "width": config.width,
            "shape": list(images.shape),
            "classes": list(images.classes),
            "n_images": len(images),
            "n_parameters": net.n_parameters,
            "n_trajectories": config.n_trajectories,
            "epochs": method.epochs,
            "train_accuracy": accuracy,
        }
        write_trajectories(writing, transform, stated)
        replace_directory(writing, run.out)
        for file in checkpoints.folder.glob("part-*"):
            file.unlink()
    return {
        "n_trajectories": config.n_trajectories,
        "n_parameters": net.n_parameters,
        "n_images": len(images),
        "epochs": method.epochs,
        "train_accuracy": sum(accuracy) / len(accuracy),
        "train_accuracy_lowest": min(accuracy),
    }


def _train(
    plan: "Plan",
    images: "ImageSet",
    path: Path,
    transform: "Transform",
    folder: Path,
    numbers: Sequence[int],
    advance: Callable[[], None],
) -> None:
    """Write the file of each expert into the folder; `advance` is called for each."""
    from condense.experts._training import train_expert, train_share
    from condense.trajectories import part, write_whole

    processes = n_processes()
    if processes > 1 and os.environ.get("DASK_SCHEDULER_ADDRESS"):
        raise ParamsError("$DATASTILL_PROCESSES and $DASK_SCHEDULER_ADDRESS: experts go to one of the two; unset one")
    if not numbers:
        return
    if processes == 1:
        for index, content in map_chunks(partial(train_expert, plan, images, transform), numbers):
            write_whole(folder / part(index), content)
            advance()
        return
    arguments = {
        "plan": {field.name: getattr(plan, field.name) for field in fields(plan) if field.name != "settings"},
        "settings": plan.settings.model_dump(mode="json"),
        "images": str(path),
        "kind": transform.kind,
        "folder": str(folder),
        "numbers": list(numbers),
    }
    left = set(numbers)

    def look() -> None:
        found = {index for index in left if (folder / part(index)).is_file()}
        left.difference_update(found)
        for _ in found:
            advance()

    launch(f"{train_share.__module__}:{train_share.__name__}", arguments, processes, look)
    if left:
        raise RuntimeError(f"experts {sorted(left)}: torchrun ended without them")


def _take(file: Path, out: Path) -> int:
    """Put an expert's file into the output, and leave it where it is until that is complete; the number right."""
    from safetensors import safe_open

    try:
        os.link(file, out)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, out)
    opened: Any = safe_open(out, framework="numpy")
    return int(opened.get_tensor("n_right")[0])


def _check_packages() -> None:
    from importlib.util import find_spec

    if missing := [name for name in ("torch", "safetensors") if find_spec(name) is None]:
        raise MissingError(f"experts need {' and '.join(missing)}: `pip install 'datastill[images]'`")


STAGE = Stage(
    name="experts",
    parse=parse,
    inputs={"images": "dataset of Images to train on, or an .npz file with image and label"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
