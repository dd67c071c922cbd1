"""Handwritten digits, 8 x 8, that scikit-learn ships: no download.

Source: Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. 1998. UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, of which scikit-learn has the test set; their values 0 to 16 become 0 to 255.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from condense.sources import RealImage, Source
from condense.sources._split import Split, part_of
from datagen.contracts.errors import MissingError, ParamsError

if TYPE_CHECKING:
    from datagen.contracts.images import Labels, Pixels

_MOST = 16


class Config(Split):
    """The part; by default 360 images of 1,797 are for test, 240 for validation and 1,197 for train."""

    method: Literal["digits"] = "digits"
    validation_share: float = Field(default=0.1333, ge=0, lt=1)
    test_share: float = Field(default=0.2, ge=0, lt=1)


def digits(config: Config, raw: Path | None) -> Source:
    """See `condense.sources.SourceMethod`."""
    if raw:
        raise ParamsError(
            f"--raw: method digits has images of its own (got {raw}); leave it out, or set another method"
        )
    import numpy as np

    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise MissingError("method digits needs scikit-learn: `pip install 'datastill[images]'`") from None
    bunch: Any = load_digits()  # without types
    pixels = np.rint(bunch.images * (255 / _MOST)).astype(np.uint8)[..., None]
    labels: Labels = bunch.target.astype(np.int64)
    return Source(
        images=_images(pixels, labels, part_of(labels, config, "digits")),
        classes=[str(name) for name in bunch.target_names],
        licence="CC BY 4.0",
        origin="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI, doi:10.24432/C50P49, by scikit-learn",
    )


def _images(pixels: "Pixels", labels: "Labels", chosen: "Labels") -> Iterator[RealImage]:
    for i in map(int, chosen):
        yield RealImage(id=f"digits-{i}", pixels=pixels[i], label=int(labels[i]))
