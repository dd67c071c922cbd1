"""Oracles: folders and Parquet files written by hand, which `datasets` itself reads; no network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from condense.sources import RealImage
from condense.sources.hub import Config, hub
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.records import Rejection
from tests.condense.sources.test_image_file import PIXELS, encoded


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, labels: list[Any], kind: Any) -> Path:
    """A folder of one Parquet file with the columns `img` and `answer`."""
    folder.mkdir()
    files = [{"bytes": encoded(PIXELS[i]), "path": None} for i in range(len(labels))]
    rows = {"img": files, "answer": labels}
    Dataset.from_dict(rows, features=Features({"img": ImageFeature(), "answer": kind})).to_parquet(folder / "a.parquet")
    return folder


def read(folder: Path, **settings: Any) -> Config:
    columns = {"image_column": "img", "label_column": "answer"}
    return Config.model_validate({"dataset": str(folder), **columns, **settings})


def test_a_folder_of_class_folders(tmp_path: Path):
    for i, name in enumerate(["dog", "cat", "dog"]):
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[i]).save(tmp_path / "pets" / name / f"{i}.png")
    found = hub(Config(dataset=str(tmp_path / "pets")), None)
    images = [one for one in found.images if isinstance(one, RealImage)]
    assert found.classes == ["cat", "dog"] and sorted(one.label for one in images) == [0, 1, 1]
    (cat,) = (one for one in images if one.label == 0)
    np.testing.assert_array_equal(cat.pixels, PIXELS[1])


def test_classes_keep_their_order_and_part(tmp_path: Path):
    folder = write(tmp_path / "set", [1, 0, 1, 0], ClassLabel(names=["zebra", "ant"]))
    found = hub(read(folder, split="train[1:]", licence="MIT"), None)
    images = [one for one in found.images if isinstance(one, RealImage)]
    assert (found.classes, found.licence) == (["zebra", "ant"], "MIT")
    assert [one.label for one in images] == [0, 1, 0]
    np.testing.assert_array_equal(images[0].pixels, PIXELS[1])


def test_labels_without_names(tmp_path: Path):
    """Whole numbers keep their value where one is missing; names are in order."""
    found = hub(read(write(tmp_path / "numbers", [3, 0, 1], Value("int64"))), None)
    assert found.classes == ["0", "1", "2", "3"]
    assert [one.label for one in found.images if isinstance(one, RealImage)] == [3, 0, 1]
    found = hub(read(write(tmp_path / "names", ["b", "a", "b"], Value("string"))), None)
    assert found.classes == ["a", "b"]
    assert [one.label for one in found.images if isinstance(one, RealImage)] == [1, 0, 1]


def test_images_without_a_label_are_rejections(tmp_path: Path):
    found = list(hub(read(write(tmp_path / "set", ["a", None], Value("string"))), None).images)
    assert isinstance(found[1], Rejection) and (found[1].id, found[1].reason) == ("train-1", "no_label")


def test_images_that_cannot_be_read_are_rejections(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    rows = {"img": [{"bytes": b"none", "path": None}, {"bytes": encoded(PIXELS[0]), "path": None}], "answer": [0, 1]}
    features = Features({"img": ImageFeature(decode=False), "answer": Value("int64")})
    Dataset.from_dict(rows, features=features).to_parquet(folder / "a.parquet")
    found = list(hub(read(folder), None).images)
    assert isinstance(found[0], Rejection) and found[0].reason == "unreadable"
    assert isinstance(found[1], RealImage)


def test_what_cannot_be_used(tmp_path: Path):
    folder = write(tmp_path / "set", [0.5, 1.0], Value("float32"))
    with pytest.raises(DataError, match=r"labels are 0.5, 1.0\.\.\.; expected names or whole numbers"):
        hub(read(folder), None)
    with pytest.raises(DataError, match="has no column 'image'; it has img, answer"):
        hub(Config(dataset=str(folder)), None)
    with pytest.raises(DataError, match="column 'answer' holds no images"):
        hub(read(folder, image_column="answer"), None)
    with pytest.raises(ParamsError, match="method hub reads dataset"):
        hub(read(folder), tmp_path)


def test_offline_is_said(tmp_path: Path):
    with pytest.raises(MissingError, match=r"dataset 'nobody/nothing' \(subset None, split train\)"):
        hub(Config(dataset="nobody/nothing"), None)
    folder = write(tmp_path / "set", [0, 1], Value("int64"))
    with pytest.raises(MissingError, match="split test"):
        hub(read(folder, split="test"), None)
