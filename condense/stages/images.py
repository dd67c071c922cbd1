"""Make an image set: from what scikit-learn ships, the Hub, or a user's own file.

The output is a dataset of Images, a row an image, which `datasets` opens with an image column. Its manifest says the
classes, the images' shape, their licence and where they are from. Images that cannot be read, have no class, or are not
of the first one's size are rejections.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import Field

from condense.sources import RealImage, Source
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.licences import stated_or_made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection
from datagen.contracts.stage import Run, Stage, load_method, main

DEFAULT_METHOD = "digits"


class Config(Params):
    """Which images.

    Attributes:
        method: of `condense.sources`.
        max_images: the first so many of the part; by default all.
        max_rejected_share: of them; above it, the stage fails.
    """

    method: str = DEFAULT_METHOD
    max_images: int | None = Field(None, ge=1)
    max_rejected_share: float = Field(0.05, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    return validate({**section, "method": name}, Config, load_method("condense.sources", name).Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Images."""
    from datagen.contracts.images import ImageRow, to_png

    config = run.params[Config]
    method = load_method("condense.sources", config.method)
    raw = run.inputs.get("raw")
    if raw and not raw.exists():
        raise DataError(f"{raw}: no such file or dataset directory")
    source: Source = getattr(method, config.method)(run.params[method.Config], raw)
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        **stated_or_made_of({"raw": raw}, source.origin, source.licence),
        "classes": list(source.classes),
        "licence": source.licence,
        "source": source.origin,
    }
    counts = Counter[str](dict.fromkeys(source.classes, 0))
    size: tuple[int, int, int] | None = None
    first: Rejection | None = None
    with DatasetWriter(run.out, ImageRow, manifest) as writer, run.progress(config.max_images, "images") as bar:
        for found in islice(source.images, config.max_images):
            writer.read()
            bar.advance(1)
            row, size = _of_one_size(found, size)
            if isinstance(row, Rejection):
                first = first or row
                writer.reject(row)
                continue
            counts[source.classes[row.label]] += 1
            image: dict[str, bytes | None] = {"bytes": to_png(row.pixels), "path": None}
            writer.write(ImageRow(id=row.id, image=image, label=row.label))
        if first and writer.reasons.total() > config.max_rejected_share * writer.rows_in:
            raise DataError(
                f"{source.origin}: {writer.reasons.total()} of {writer.rows_in} images cannot be used, "
                f"max_rejected_share is {config.max_rejected_share}; the first is {first.id!r}: {first.reason}: "
                f"{first.detail}"
            )
        if size is None:
            raise DataError(f"{source.origin}: holds no image")
        height, width, channels = size
        writer.describe(shape=[channels, height, width])
    return {"rows": writer.rows, "rejected": dict(sorted(writer.reasons.items())), "classes": dict(counts)}


def _of_one_size(
    found: RealImage | Rejection, size: tuple[int, int, int] | None
) -> tuple[RealImage | Rejection, tuple[int, int, int] | None]:
    """The image, or why it is of another size than the first; and the first one's height, width and channels."""
    if isinstance(found, Rejection):
        return found, size
    height, width, channels = found.pixels.shape
    if size and size != (height, width, channels):
        detail = f"is {height} x {width} x {channels}, the first image is {' x '.join(map(str, size))}"
        return Rejection(id=found.id, stage="images", reason="other_size", detail=detail), size
    return found, (height, width, channels)


STAGE = Stage(
    name="images",
    parse=parse,
    inputs={},
    optional_inputs={"raw": "a user's .npz file with image and label, or dataset of Images"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
