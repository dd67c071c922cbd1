"""Oracles: arrays written by hand, files by Pillow."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condense.sources import RealImage
from condense.sources.image_file import Config, image_file
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.records import Rejection

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 6, 3), dtype=np.uint8)
LABELS = np.arange(20) % 2


def write_npz(path: Path) -> Path:
    np.savez(path, image=PIXELS, label=LABELS, class_names=np.array(["cat", "dog"]))
    return path


def encoded(pixels: NDArray[np.uint8], kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_files(path: Path, files: list[bytes]) -> Path:
    """Files end to end, as a corpus of JPEGs is kept."""
    offset = np.cumsum([0, *map(len, files)])
    content = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, jpeg=content, offset=offset, label=np.arange(len(files)) % 2)
    return path


def test_all_images_of_an_npz(tmp_path: Path):
    found = image_file(Config(licence="CC0"), write_npz(tmp_path / "mine.npz"))
    assert (found.classes, found.licence, found.origin) == (["cat", "dog"], "CC0", "mine.npz")
    images = [one for one in found.images if isinstance(one, RealImage)]
    assert [one.id for one in images] == [f"mine-{i}" for i in range(20)]
    assert [one.label for one in images] == LABELS.tolist()
    np.testing.assert_array_equal(np.stack([one.pixels for one in images]), PIXELS)


def test_parts_of_it(tmp_path: Path):
    raw = write_npz(tmp_path / "mine.npz")
    ids = list[str]()
    for split, n in {"train": 12, "validation": 4, "test": 4}.items():
        config = Config.model_validate({"split": split, "validation_share": 0.2, "test_share": 0.2})
        images = [one for one in image_file(config, raw).images if isinstance(one, RealImage)]
        assert Counter(one.label for one in images) == {0: n // 2, 1: n // 2}
        ids += [one.id for one in images]
    assert sorted(ids) == sorted(f"mine-{i}" for i in range(20))


def test_files_that_cannot_be_read_are_rejections(tmp_path: Path):
    files = [encoded(PIXELS[0]), b"no image", encoded(PIXELS[2])[:60], encoded(PIXELS[3]), b""]
    found = list(image_file(Config(), write_files(tmp_path / "files.npz", files)).images)
    assert [type(one).__name__ for one in found] == ["RealImage", "Rejection", "Rejection", "RealImage", "Rejection"]
    assert all(one.reason == "unreadable" and one.detail for one in found if isinstance(one, Rejection))
    assert isinstance(found[3], RealImage) and found[3].label == 1 and found[3].id == "files-3"
    np.testing.assert_array_equal(found[3].pixels, PIXELS[3])


def test_jpeg_is_decoded_as_pillow_does(tmp_path: Path):
    file = encoded(PIXELS[0], "jpeg")
    (one,) = image_file(Config(), write_files(tmp_path / "files.npz", [file])).images
    assert isinstance(one, RealImage)
    np.testing.assert_array_equal(one.pixels, np.asarray(Image.open(io.BytesIO(file))))


def test_what_cannot_be_used(tmp_path: Path):
    with pytest.raises(ParamsError, match="--raw: method image_file needs it"):
        image_file(Config(), None)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"notes.txt: expected a dataset of Images or an .npz"):
        image_file(Config(), tmp_path / "notes.txt")
    np.savez(tmp_path / "nan.npz", image=np.full((2, 4, 4), np.nan), label=np.zeros(2, int))
    with pytest.raises(DataError, match="with NaN or infinity; give uint8"):
        image_file(Config(), tmp_path / "nan.npz")
    np.savez(tmp_path / "short.npz", jpeg=np.zeros(3, np.uint8), offset=np.array([0, 3]), label=np.zeros(2, int))
    with pytest.raises(DataError, match="give 1 whole numbers"):
        image_file(Config(), tmp_path / "short.npz")
    with pytest.raises(DataError, match=r"mine.npz: 20 images cannot be cut into parts of test_share 0.96"):
        image_file(Config(test_share=0.96), write_npz(tmp_path / "mine.npz"))
    raw = write_npz(tmp_path / "cut.npz")
    raw.write_bytes(raw.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut.npz: not readable as an .npz file"):
        image_file(Config(), raw)
