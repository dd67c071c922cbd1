"""Condensed image sets: a few images, made or chosen, that stand for many; stored, counted in bytes, read back.

A dataset of Images (datagen/contracts/images.py), so that `datasets` shows what the images look like, with the set
itself beside them:

    condensed.safetensors   what a student is trained on, and all that is counted as the set's size
    loss.json               the loss of each iteration
    part-00000.parquet      the images as PNG, to look at; a made image is cut to the range of real ones there

Made pixels are stored in `bits` each. With 8, the default, a made image has the size of a real one: an integer code
with one scale and one offset a channel, of which the error is at most half a 255th of the channel's range. What is
evaluated is what is stored.

Source: none; affine quantisation is that of Jacob et al. 2017, arXiv:1712.05877, equation 1.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from condense.pixels.transform import Transform
from datagen.contracts.dataset import DatasetWriter, is_dataset, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageRow, Labels, Pixels, to_png

FILE = "condensed.safetensors"
BITS = (8, 16, 32)
_N_CODES = 255
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CondensedSet:
    """What a student is trained on.

    Attributes:
        pixels: (M, C, H, W), as networks see them: after `transform`.
        labels: (M,) hard labels.
        soft_labels: (M, K) logits, or None.
        step_size: learning rate of the students that the set was made for, above 0, or None.
        transform: what makes real images into what `pixels` are; goes onto test images too.
        classes: names, in the order of the labels.
        raw: (M, H, W, C) the images themselves, where they are real ones; None where they were made.
    """

    pixels: Floats
    labels: Labels
    soft_labels: Floats | None = None
    step_size: float | None = None
    transform: Transform
    classes: Sequence[str]
    raw: Pixels | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)


def arrays_of(condensed: CondensedSet, bits: int) -> dict[str, NDArray[Any]]:
    """The arrays that are stored, by name; real images always take 8 bits and lose nothing."""
    arrays: dict[str, NDArray[Any]] = {}
    if condensed.raw is not None:
        arrays["raw"] = condensed.raw
    elif bits == 8:
        low, high = condensed.pixels.min(axis=(0, 2, 3)), condensed.pixels.max(axis=(0, 2, 3))
        scale = np.where(high > low, (high - low) / _N_CODES, 1).astype(np.float32)
        codes = np.rint((condensed.pixels - _by_channel(low)) / _by_channel(scale))
        arrays |= {"codes": codes.astype(np.uint8), "scale": scale, "offset": low.astype(np.float32)}
    else:
        arrays["pixels"] = condensed.pixels.astype(np.float16 if bits == 16 else np.float32)
    arrays["labels"] = condensed.labels.astype(np.min_scalar_type(max(len(condensed.classes) - 1, 0)))
    if condensed.soft_labels is not None:
        arrays["soft_labels"] = condensed.soft_labels.astype(np.float16)
    if condensed.step_size is not None:
        arrays["step_size"] = np.array([condensed.step_size], np.float32)
    return arrays | {f"transform.{name}": one for name, one in condensed.transform.arrays().items()}


def count_bytes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Bytes of what is stored: pixels, labels, soft_labels, step_size, transform, and their total."""
    part = {"raw": "pixels", "codes": "pixels", "scale": "pixels", "offset": "pixels"}
    counts: dict[str, int] = dict.fromkeys(("pixels", "labels", "soft_labels", "step_size", "transform"), 0)
    for name, array in arrays.items():
        counts[part.get(name) or name.partition(".")[0]] += array.nbytes
    return counts | {"total": sum(counts.values())}


def write_condensed(
    out: Path, condensed: CondensedSet, bits: int, manifest: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Write the dataset directory; `curve` is the loss of each iteration. Returns the bytes, as `count_bytes`."""
    arrays = arrays_of(condensed, bits)
    stored = _of(arrays, condensed.classes, condensed.pixels.shape[1:])
    counts = count_bytes(arrays)
    stated = {
        "classes": list(condensed.classes),
        "shape": list(condensed.pixels.shape[1:]),
        "bytes": counts,
        "images_are": "made" if condensed.raw is None else "real",
    }
    seen = stored.transform.invert(stored.pixels) if stored.raw is None else stored.raw
    with DatasetWriter(out, ImageRow, {**manifest, **stated}) as writer:
        for i, (image, label) in enumerate(zip(seen, stored.labels.tolist(), strict=True)):
            writer.read()
            id = f"{condensed.classes[label]}-{i}"
            writer.write(ImageRow(id=id, image={"bytes": to_png(image), "path": None}, label=label))
        writer.attach(FILE, save({name: np.ascontiguousarray(one) for name, one in sorted(arrays.items())}))
        writer.attach("loss.json", json.dumps(list(curve), indent=1) + "\n")
    return counts


def is_condensed(path: Path) -> bool:
    """Whether a stage wrote a condensed set there."""
    return is_dataset(path) and (path / FILE).is_file()


def read_condensed(path: Path) -> CondensedSet:
    """A condensed set.

    Raises:
        DataError: there is none, its file is cut short, or a number in it is not finite or no step size.
    """
    if not is_condensed(path):
        raise DataError(f"{path}: no condensed set (it has no {FILE}); give what `datastill condense_images` wrote")
    manifest = read_manifest(path)
    try:
        arrays = load((path / FILE).read_bytes())
        found = _of(arrays, manifest["classes"], tuple(manifest["shape"]))
    except Exception as error:  # safetensors raises an error of its own, of no stable type
        raise DataError(f"{path / FILE}: cannot be read ({error}); condense again") from None
    for name, one in (("pixels", found.pixels), ("soft_labels", found.soft_labels), ("step_size", found.step_size)):
        if one is not None and not np.isfinite(one).all():
            raise DataError(f"{path / FILE}: {name} holds NaN or infinity; condense again")
    if found.step_size is not None and found.step_size <= 0:
        raise DataError(f"{path / FILE}: step_size is {found.step_size}, students need one above 0; condense again")
    return found


def _of(arrays: Mapping[str, NDArray[Any]], classes: Sequence[str], shape: tuple[int, ...]) -> CondensedSet:
    start = "transform."
    own = {name.removeprefix(start): one for name, one in arrays.items() if name.startswith(start)}
    transform = Transform.of(own, (shape[0], shape[1], shape[2]))
    raw = arrays.get("raw")
    if raw is not None:
        pixels = transform.apply(raw)
    elif "codes" in arrays:
        pixels = arrays["codes"].astype(np.float32) * _by_channel(arrays["scale"]) + _by_channel(arrays["offset"])
    else:
        pixels = arrays["pixels"].astype(np.float32)
    soft, step = arrays.get("soft_labels"), arrays.get("step_size")
    return CondensedSet(
        pixels=pixels,
        labels=arrays["labels"].astype(np.int64),
        soft_labels=None if soft is None else soft.astype(np.float32),
        step_size=None if step is None else float(step[0]),
        transform=transform,
        classes=list(classes),
        raw=raw,
    )


def _by_channel(values: NDArray[Any]) -> NDArray[Any]:
    return values[:, None, None]
