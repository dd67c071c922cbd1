"""An image set of the Hugging Face Hub by name, or a local folder that `datasets` reads, such as one of class folders.

Source: none of its own; MNIST (LeCun et al. 1998) is `ylecun/mnist`, CIFAR-10 (Krizhevsky 2009) is `uoft-cs/cifar10`,
whose columns are `img` and `label`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from condense.sources import RealImage, Source
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Rejection


class Config(Params):
    """Which set.

    Attributes:
        dataset: its name, or a folder.
        subset: of it, where it has some.
        split: of it; a part as `datasets` writes it, `train[:45000]`, so that a validation part can be left over.
        revision: a commit, so that the images stay the same.
        image_column: of images.
        label_column: of classes, or of whole numbers or names.
        licence: for the manifest; by default what the set states.
    """

    method: Literal["hub"] = "hub"
    dataset: str
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    licence: str | None = None


def hub(config: Config, raw: Path | None) -> Source:
    """See `condense.sources.SourceMethod`; `datasets` keeps its own cache of what it fetches."""
    if raw:
        raise ParamsError(f"--raw: method hub reads dataset (got {raw}); leave it out, or set method=image_file")
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingError("method hub needs the package datasets: `pip install 'datastill[lm]'`") from None
    named = f"dataset {config.dataset!r} (subset {config.subset}, split {config.split})"
    try:
        rows: Any = datasets.load_dataset(config.dataset, config.subset, split=config.split, revision=config.revision)
    except (OSError, ValueError) as error:  # offline, no such dataset, subset or split: datasets has no narrower class
        raise MissingError(f"{named}: {' '.join(str(error).split())}") from None
    for column in (config.image_column, config.label_column):
        if column not in rows.column_names:
            raise DataError(f"{named}: has no column {column!r}; it has {', '.join(rows.column_names)}")
    if not isinstance(rows.features[config.image_column], datasets.Image):
        raise DataError(f"{named}: column {config.image_column!r} holds no images; set image_column")
    labels: list[Any] = list(rows[config.label_column])
    feature = rows.features[config.label_column]
    classes = feature.names if isinstance(feature, datasets.ClassLabel) else _classes(labels, named)
    files = rows.cast_column(config.image_column, datasets.Image(decode=False))
    return Source(
        images=_images(files, config, classes),
        classes=[str(name) for name in classes],
        licence=config.licence or rows.info.license or "see the dataset's own card",
        origin=" ".join(filter(None, [config.dataset, config.subset, config.split, config.revision])),
    )


def _classes(labels: Sequence[Any], named: str) -> Sequence[int | str]:
    """Whole numbers from 0 to the largest, so that a split without one has the same labels; or names in their order."""
    stated = {label for label in labels if label is not None}
    if stated and all(type(label) is int and label >= 0 for label in stated):
        return range(max(stated) + 1)
    if stated and all(isinstance(label, str) for label in stated):
        return sorted(stated)
    some = ", ".join(map(repr, labels[:3]))
    raise DataError(f"{named}: labels are {some}...; expected names or whole numbers from 0; set label_column")


def _images(rows: Any, config: Config, classes: Sequence[int | str]) -> Iterator[RealImage | Rejection]:
    from datagen.contracts.images import from_file

    positions: dict[Any, int] = {name: i for i, name in enumerate(classes)} | {i: i for i in range(len(classes))}
    for i, row in enumerate(rows):
        id, label = f"{config.split}-{i}", row[config.label_column]
        if label not in positions:
            yield Rejection(id=id, stage="images", reason="no_label", detail=f"label is {label!r}")
            continue
        file = row[config.image_column] or {}
        try:
            content = file.get("bytes") or Path(file["path"]).read_bytes()
            yield RealImage(id=id, pixels=from_file(content), label=positions[label])
        except (OSError, ValueError, SyntaxError, KeyError, TypeError) as error:
            yield Rejection(id=id, stage="images", reason="unreadable", detail=str(error))
