"""A set in three parts that never overlap, each with every class in its share."""

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.params import Params

if TYPE_CHECKING:
    from datagen.contracts.images import Labels


class Split(Params):
    """Which part, and how large validation and test are, each rounded up to a whole row; the rest is train.

    The parts depend on the seed, the shares and the labels' order.
    """

    split: Literal["train", "validation", "test"] = "train"
    validation_share: float = Field(default=0.0, ge=0, lt=1)
    test_share: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**32)


def part_of(labels: "Labels", config: Split, place: str, rows: str = "images") -> "Labels":
    """Positions of the part's rows, ascending.

    Args:
        labels: of all rows.
        config: see `Split`.
        place: of the rows, for errors.
        rows: what they are, likewise.

    Raises:
        ParamsError: the part is empty.
        DataError: a class has too few images to be in every part.
        MissingError: scikit-learn is not installed.
    """
    import numpy as np

    rest = np.arange(len(labels))
    parts: dict[str, Labels] = {}
    for name, share in (("test", config.test_share), ("validation", config.validation_share)):
        if share:
            rest, parts[name] = _cut(rest, labels, math.ceil(share * len(labels)), config, place, rows)
    parts["train"] = rest
    if config.split not in parts:
        raise ParamsError(f"split: {config.split} is empty, as {config.split}_share is 0; set it above 0")
    return np.sort(parts[config.split])


def _cut(
    positions: "Labels", labels: "Labels", n_apart: int, config: Split, place: str, rows: str
) -> tuple["Labels", "Labels"]:
    """The rest, and `n_apart` positions drawn class by class."""
    try:
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise MissingError(f"{rows} in three parts need scikit-learn: `pip install 'datastill[images]'`") from None
    try:
        cut: Any = train_test_split(positions, test_size=n_apart, stratify=labels[positions], random_state=config.seed)
    except ValueError as error:  # too few of a class, or nothing left
        raise DataError(
            f"{place}: {len(labels)} {rows} cannot be cut into parts of test_share {config.test_share} and "
            f"validation_share {config.validation_share}: {' '.join(str(error).split())}"
        ) from None
    return cut[0], cut[1]
