"""Where real images come from; one method a file.

digits       the 8 x 8 handwritten digits that scikit-learn ships
hub          an image set of the Hugging Face Hub, or a local folder that `datasets` reads
image_file   a user's own .npz file or dataset of Images
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from datagen.contracts.records import Rejection

if TYPE_CHECKING:
    from datagen.contracts.images import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class RealImage:
    """One: its name, pixels (H, W, C) uint8 with C 1 or 3, and its class's position."""

    id: str
    pixels: "Pixels"
    label: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """An image set.

    Attributes:
        images: each once, in a fixed order; a Rejection for each that cannot be read or has no class.
        classes: names, in the order of the labels.
        licence: under which the images are.
        origin: where they are from, as a reader would cite it.
    """

    images: Iterator[RealImage | Rejection]
    classes: Sequence[str]
    licence: str
    origin: str


class SourceMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, raw: Path | None) -> Source:
        """The images that the config names.

        Args:
            config: the method's Config.
            raw: what the user gave as --raw.

        Raises:
            ParamsError: `raw` is missing or is not used, or a split is empty.
            MissingError: a package or the image set is not here.
            DataError: `raw` or the image set cannot be used.
        """
        ...
