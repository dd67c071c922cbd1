"""A user's own images: an .npz file with `image` and `label`, or a dataset of Images.

Source: none: the user's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

from condense.sources import RealImage, Source
from condense.sources._split import Split, part_of
from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Rejection

if TYPE_CHECKING:
    from datagen.contracts.images import ImageSet, Labels


class Config(Split):
    """The part, by default all images; and the licence, for the manifest."""

    method: Literal["image_file"] = "image_file"
    licence: str = "not stated"


def image_file(config: Config, raw: Path | None) -> Source:
    """See `condense.sources.SourceMethod`; files in an .npz, as `jpeg` and `offset`, are read one by one."""
    import numpy as np

    from datagen.contracts.images import check_images, read_images

    if raw is None:
        raise ParamsError("--raw: method image_file needs it; name an .npz file with image and label, or a dataset")
    files = _files(raw)
    if files is None:
        images = read_images(raw)
    else:  # labels and names are checked as those of all others
        n_files = max(len(files["offset"]) - 1, 0)
        others = {name: one for name, one in files.items() if name not in ("jpeg", "offset")}
        images = check_images(raw, {**others, "image": np.zeros((n_files, 1, 1), np.uint8)})
    chosen = part_of(images.labels, config, str(raw))
    return Source(
        images=_images(images, chosen) if files is None else _decoded(images, chosen, files),
        classes=images.classes,
        licence=config.licence,
        origin=raw.name,
    )


def _files(raw: Path) -> dict[str, Any] | None:
    """The arrays of an .npz that holds image files end to end; None of anything else."""
    import numpy as np

    if raw.suffix != ".npz" or not raw.is_file():
        return None
    try:
        with np.load(raw, allow_pickle=False) as file:
            return dict(file) if {"jpeg", "offset"} <= set(file.files) else None
    except (OSError, ValueError, EOFError, BadZipFile):  # `read_images` says what is wrong with it
        return None


def _images(images: "ImageSet", chosen: "Labels") -> Iterator[RealImage]:
    for i in map(int, chosen):
        yield RealImage(id=images.ids[i], pixels=images.pixels[i], label=int(images.labels[i]))


def _decoded(images: "ImageSet", chosen: "Labels", files: dict[str, Any]) -> Iterator[RealImage | Rejection]:
    from datagen.contracts.images import from_file

    for i in map(int, chosen):
        start, end = files["offset"][i : i + 2].tolist()
        try:
            pixels = from_file(files["jpeg"][start:end].tobytes())
        except (OSError, ValueError, SyntaxError) as error:  # Pillow has no narrower class
            yield Rejection(id=images.ids[i], stage="images", reason="unreadable", detail=str(error))
            continue
        yield RealImage(id=images.ids[i], pixels=pixels, label=int(images.labels[i]))
