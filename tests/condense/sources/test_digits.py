"""Oracles: scikit-learn's own arrays, counts by class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from condense.sources import RealImage
from condense.sources.digits import Config, digits
from datagen.contracts.errors import ParamsError

SPLITS = {"train": 1197, "validation": 240, "test": 360}


def images(split: str, **settings: float) -> list[RealImage]:
    found = digits(Config.model_validate({"split": split, **settings}), None)
    assert found.classes == list("0123456789") and found.licence == "CC BY 4.0"
    return [one for one in found.images if isinstance(one, RealImage)]


def test_the_parts_are_all_images_once():
    found = {split: images(split) for split in SPLITS}
    assert {split: len(some) for split, some in found.items()} == SPLITS
    ids = [one.id for some in found.values() for one in some]
    assert sorted(ids) == sorted(f"digits-{i}" for i in range(1797))


@pytest.mark.parametrize("split", SPLITS)
def test_pixels_are_scikit_learn_s_times_255_over_16(split: str):
    values, labels = load_digits(return_X_y=True)
    for one in images(split):
        place = int(one.id.removeprefix("digits-"))
        assert one.pixels.shape == (8, 8, 1) and one.pixels.dtype == np.uint8
        assert np.abs(one.pixels.ravel() - values[place] * 255 / 16).max() <= 0.5
        assert one.label == labels[place]


def test_every_part_has_every_class_in_its_share():
    whole = Counter(map(int, np.asarray(load_digits(return_X_y=True)[1])))
    for split, n in SPLITS.items():
        counts = Counter(one.label for one in images(split))
        assert all(abs(counts[label] - n * whole[label] / 1797) <= 1 for label in range(10))


def test_parts_are_of_the_seed_and_in_order():
    first = [one.id for one in images("test")]
    assert first == [one.id for one in images("test")]
    assert first == sorted(first, key=lambda id: int(id.removeprefix("digits-")))
    assert first != [one.id for one in images("test", seed=1)]


def test_other_shares():
    assert [len(images(split, test_share=0.5, validation_share=0.1)) for split in SPLITS] == [718, 180, 899]
    assert len(images("train", test_share=0, validation_share=0)) == 1797
    with pytest.raises(ParamsError, match="split: validation is empty, as validation_share is 0"):
        images("validation", validation_share=0)


def test_raw_is_refused():
    with pytest.raises(ParamsError, match="digits has images of its own"):
        digits(Config(), Path("mine.npz"))
