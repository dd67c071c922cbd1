"""Image sets: real images, and the small sets that are condensed from them. Arrays of numpy, pixels of uint8.

A dataset of Images holds a row an image, as PNG, in the column type that `datasets` shows as an image:

    part-00000.parquet      id, image, label
    rejections.parquet      images that could not be used
    manifest.json           with `classes`, their names in the order of the labels, and `shape`: channels, height, width

Source: the image column is that of https://huggingface.co/docs/datasets/image_dataset.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, cast
from zipfile import BadZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datagen.contracts.dataset import is_dataset, iterate, read_manifest
from datagen.contracts.errors import DataError, MissingError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
# the Arrow schema of Features(id=Value("string"), image=Image(), label=Value("int64")), as `datasets` writes it into a
# Parquet file: pyarrow's Schema.serialize() in base64, so that neither is needed here
_HUB_SCHEMA = (
    "//////gBAAAQAAAAAAAKAA4ABgAFAAgACgAAAAABBAAQAAAAAAAKAAwAAAAEAAgACgAAAMwAAAAEAAAAAQAAAAwAAAAIAAwABAAIAAgA"
    "AACgAAAABAAAAJEAAAB7ImluZm8iOiB7ImZlYXR1cmVzIjogeyJpZCI6IHsiZHR5cGUiOiAic3RyaW5nIiwgIl90eXBlIjogIlZhbHVl"
    "In0sICJpbWFnZSI6IHsiX3R5cGUiOiAiSW1hZ2UifSwgImxhYmVsIjogeyJkdHlwZSI6ICJpbnQ2NCIsICJfdHlwZSI6ICJWYWx1ZSJ9"
    "fX19AAAACwAAAGh1Z2dpbmdmYWNlAAMAAADUAAAAQAAAAAQAAABI////AAABAhAAAAAgAAAABAAAAAAAAAAFAAAAbGFiZWwAAAAIAAwA"
    "CAAHAAgAAAAAAAABQAAAAID///8AAAENGAAAACAAAAAEAAAAAgAAAEAAAAAUAAAABQAAAGltYWdlAAAAfP///7D///8AAAEFEAAAABgA"
    "AAAEAAAAAAAAAAQAAABwYXRoAAAAAKT////Y////AAABBBAAAAAYAAAABAAAAAAAAAAFAAAAYnl0ZXMAAADM////EAAUAAgABgAHAAwA"
    "AAAQABAAAAAAAAEFEAAAABgAAAAEAAAAAAAAAAIAAABpZAAABAAEAAQAAAA="
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """An image with its class.

    Attributes:
        id: unique in its dataset.
        image: `bytes`, a PNG file, and `path`, None.
        label: position of its class among the dataset's `classes`.
    """

    id: str
    image: dict[str, bytes | None]
    label: int

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "image": pl.Struct({"bytes": pl.Binary, "path": pl.String}),
        "label": pl.Int64,
    }
    # without it, `datasets` shows bytes
    METADATA: ClassVar[dict[str, str]] = {"ARROW:schema": _HUB_SCHEMA}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images in memory.

    Attributes:
        pixels: (N, H, W, C), C 1 or 3.
        labels: (N,), each in [0, number of classes).
        ids: N names, each once.
        classes: names, in the order of the labels.
    """

    pixels: Pixels
    labels: Labels
    ids: Sequence[str]
    classes: Sequence[str]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    def take(self, chosen: Labels) -> "ImageSet":
        """Those at these positions, in their order."""
        ids = [self.ids[i] for i in map(int, chosen)]
        return ImageSet(pixels=self.pixels[chosen], labels=self.labels[chosen], ids=ids, classes=self.classes)


def to_png(pixels: Pixels) -> bytes:
    """(H, W, C) as a PNG file; the same pixels give the same bytes, for one version of Pillow and zlib."""
    file = io.BytesIO()
    _pillow().fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "png")
    return file.getvalue()


def from_file(content: bytes, mode: str | None = None) -> Pixels:
    """(H, W, C) of a PNG, JPEG or other file that Pillow reads, C 1 for grey images and 3 for all others.

    Args:
        content: of the file.
        mode: `L` or `RGB`, to which the image is converted; by default its own decides.

    Raises:
        ValueError: no image.
    """
    with _pillow().open(io.BytesIO(content)) as image:
        wanted = mode or ("L" if image.mode in ("1", "L", "I;16") else "RGB")
        pixels = np.asarray(image.convert(wanted), dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read_images(path: Path) -> ImageSet:
    """An image set: a dataset of Images, or an .npz file.

    Args:
        path: an .npz holds `image`, uint8 of n x h x w or n x h x w x 3, or else `jpeg` and `offset`, files end to end
            and where they begin; and `label`; `class_names` is optional.

    Raises:
        DataError: neither, or what it holds cannot be used; the message names the file, the array and the remedy.
        MissingError: Pillow is not installed.
    """
    if is_dataset(path):
        return _read_dataset(path)
    if not path.is_file() or path.suffix != ".npz":
        raise DataError(f"{path}: expected a dataset of Images or an .npz file with the arrays image and label")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: not readable as an .npz file ({error}); write it with numpy.savez") from None
    return check_images(path, arrays)


def check_images(path: Path, arrays: dict[str, Any]) -> ImageSet:
    """The arrays of an .npz as an image set.

    Raises:
        DataError: an array is missing, or is not what `read_images` says.
    """
    if "jpeg" in arrays and "offset" in arrays:
        ends = np.asarray(arrays["offset"]).tolist()
        content = np.asarray(arrays["jpeg"], dtype=np.uint8)
        files = [content[start:end].tobytes() for start, end in pairwise(ends)]
        try:
            arrays = arrays | {"image": np.stack([from_file(one, "RGB") for one in files])}
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: a file in jpeg is no image, or of another size ({error}); `datastill images` leaves such out"
            ) from None
    if missing := [name for name in ("image", "label") if name not in arrays]:
        held = ", ".join(sorted(arrays)) or "none"
        raise DataError(f"{path}: has no array {' and no '.join(missing)}; it holds {held}")
    pixels, labels = np.asarray(arrays["image"]), np.asarray(arrays["label"])
    if pixels.dtype != np.uint8:
        found = "with NaN or infinity" if pixels.dtype.kind == "f" and not np.isfinite(pixels).all() else ""
        raise DataError(f"{path}: image is {pixels.dtype} {found}".rstrip() + "; give uint8, 0 to 255")
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise DataError(f"{path}: image has shape {arrays['image'].shape}; give n x h x w, or n x h x w x 3")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: label is {labels.dtype} of shape {labels.shape}; give {len(pixels)} whole numbers")
    n_classes = int(labels.max()) + 1
    names = [str(name) for name in arrays.get("class_names", range(n_classes))]
    if labels.min() < 0 or n_classes > len(names):
        raise DataError(f"{path}: labels run from {labels.min()} to {labels.max()}, with {len(names)} class names")
    ids = [f"{path.stem}-{i}" for i in range(len(pixels))]
    return ImageSet(pixels=pixels, labels=labels.astype(np.int64), ids=ids, classes=names)


def check_classes(images: ImageSet, path: Path, least: int) -> None:
    """Every class has `least` images or more.

    Raises:
        DataError: with the first class that has not.
    """
    counts = np.bincount(images.labels, minlength=len(images.classes))
    for name, count in zip(images.classes, counts.tolist(), strict=True):
        if count < least:
            raise DataError(f"{path}: class {name!r} has {count} images and needs {least}; add some, or ask for fewer")


def _read_dataset(path: Path) -> ImageSet:
    manifest = read_manifest(path)
    if (held := manifest.get("record")) != "ImageRow":
        raise DataError(f"{path}: holds {held} rows; give what `datastill images` wrote")
    mode = "L" if manifest["shape"][0] == 1 else "RGB"
    rows = list(iterate(path))
    if not rows:
        raise DataError(f"{path}: holds no image")
    decode = partial(from_file, mode=mode)
    return ImageSet(
        pixels=np.stack([decode(row["image"]["bytes"]) for row in rows]),
        labels=np.array([row["label"] for row in rows], dtype=np.int64),
        ids=[row["id"] for row in rows],
        classes=manifest["classes"],
    )


def _pillow() -> Any:  # its types want a path or a stream of their own kind
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingError("images need the package Pillow: `pip install 'datastill[images]'`") from None
    return cast(Any, Image)
