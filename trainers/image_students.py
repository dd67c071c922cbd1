"""Image students: fresh nets learn from a condensed set or from real images, and are judged on images they never saw.

How they are trained: `trainers.image_steps`; at the set's own step size, as trajectory matching evaluates (Cazenavette
et al. 2022, arXiv:2203.11932, in its code).
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, PositiveFloat

from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import DataError
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.seeding import derive_seed
from trainers.fresh_students import summary, train_or_read, write_students
from trainers.image_steps import Steps, accuracy, fresh_net, loop_config, loss_of, on_device, real_set
from trainers.steps import Position

if TYPE_CHECKING:  # a stage reads Config without torch
    from condense.condensed import CondensedSet
    from datagen.contracts.images import ImageSet

STAGE = "train_image"
STEP_SIZE = 0.01  # of images that have none of their own: what trajectory matching starts from

log = logging.getLogger(__name__)


class Config(Params):
    """Who learns.

    Attributes:
        net: as `condense.nets.opening` reads it.
        width: where the net's name has none.
        seeds: students, each with initial weights and an order of its own.
        learning_rate: a number, or the images' own step size; 0.01 where they have none.
        labels: `of_images` are the set's soft labels where it has some, `hard` never.
    """

    net: str = "convnet3"
    width: int = Field(128, ge=1)
    seeds: int = Field(5, ge=1)
    learning_rate: PositiveFloat | Literal["of_images"] = "of_images"
    labels: Literal["of_images", "hard"] = "of_images"


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against every Config of image students."""
    return validate(section, Config, Steps)


def read_set(path: Path) -> "CondensedSet":
    """A condensed set, or an image set with the standard transform of its own images.

    Raises:
        DataError: neither.
    """
    from condense.condensed import is_condensed, read_condensed
    from condense.pixels.transform import fit_transform
    from datagen.contracts.images import read_images

    if is_condensed(path):
        return read_condensed(path)
    images = read_images(path)
    return real_set(images, fit_transform(images, "standard"))


def check_fits(images: "ImageSet", path: Path, classes: Sequence[str], shape: Sequence[int]) -> None:
    """Images can be judged by students of these classes and this shape.

    Raises:
        DataError: their classes or their shape are others.
    """
    if list(images.classes) != list(classes)[: len(images.classes)]:
        raise DataError(
            f"{path}: its classes are {', '.join(images.classes)}, those of the training images {', '.join(classes)}; "
            "give images of the same classes in the same order"
        )
    if list(images.shape) != list(shape):
        raise DataError(f"{path}: images are {_named(images.shape)}, the training images {_named(shape)}; scale them")


def fit(section: Mapping[str, Any], images: str, test: str, checkpoints: str, out: str) -> dict[str, Any]:
    """Train the students one after another and write them into the folder `out`.

    Args:
        section: as `parse` takes it.
        images: condensed set, dataset of Images or .npz file to learn from.
        test: dataset of Images or .npz file that the students are judged on.
        checkpoints: folder of this training's checkpoints; finished students are kept there too.
        out: gets student-I.safetensors, transform.safetensors, loss.json, manifest.json.

    Returns:
        Accuracy by seed with its interval, learning rate, number of images and steps.

    Raises:
        DataError: an input, or students that diverge.
    """
    import torch
    from accelerate import PartialState

    from datagen.contracts.images import read_images

    params = parse(section)
    config, steps = params[Config], params[Steps]
    is_main = PartialState(cpu=device_type() == "cpu").is_main_process
    learned, judged = read_set(Path(images)), read_images(Path(test))
    shape = cast("tuple[int, int, int]", learned.pixels.shape[1:])
    check_fits(judged, Path(test), learned.classes, shape)
    rate = (learned.step_size or STEP_SIZE) if config.learning_rate == "of_images" else config.learning_rate
    seen, targets = on_device(learned, hard=config.labels == "hard")
    log.info("%s: %d students learn from %d images at rate %g", STAGE, config.seeds, len(learned), rate)
    unseen = torch.from_numpy(learned.transform.apply(judged.pixels)).to(device_type())
    truth = torch.from_numpy(judged.labels).to(unseen.device)
    accuracies: list[float] = []
    curves: list[dict[str, Any]] = []
    for i in range(config.seeds):
        seed = derive_seed(steps.seed, "image", i)
        net = fresh_net(config.net, shape, len(learned.classes), config.width, seed)
        records = train_or_read(
            STAGE, i, net, [Position(at) for at in range(len(learned))], loss_of(seen, targets, steps.augmentation),
            loop_config(steps, len(learned), rate, seed), checkpoints, is_main=is_main,
        )  # fmt: skip
        accuracies.append(accuracy(net.to(unseen.device), unseen, truth))
        curves += [{"student": i, **record} for record in records]
    metrics = {
        "n_images": len(learned),
        "n_test_images": len(judged),
        "n_steps": steps.n_steps,
        "learning_rate": rate,
        "labels": "hard" if targets.ndim == 1 else "soft",
        "accuracy": summary(accuracies),
    }
    if is_main:
        manifest = {
            "format": "datastill",
            "record": "ImageStudents",
            "stage": STAGE,
            "params": params.values(),
            **made_of({"images": Path(images), "test": Path(test)}),
            "classes": list(learned.classes),
            "shape": list(shape),
            **metrics,
        }
        write_students(Path(out), Path(checkpoints), curves, manifest, {"transform": learned.transform.arrays()})
    return metrics


def _named(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
