"""Oracles: bytes by hand, the quantisation's error bound, `datasets` as the reader."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from condense.condensed import CondensedSet, arrays_of, count_bytes, read_condensed, write_condensed
from condense.pixels.transform import Transform, fit_transform
from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageSet, read_images


@pytest.fixture
def real(digits: Path) -> ImageSet:
    return read_images(digits)


def made(transform: Transform, n: int = 10, soft: bool = True) -> CondensedSet:
    generator = np.random.default_rng(0)
    return CondensedSet(
        pixels=generator.normal(size=(n, 1, 8, 8)).astype(np.float32),
        labels=np.arange(n) % 10,
        soft_labels=generator.normal(size=(n, 10)).astype(np.float32) if soft else None,
        step_size=0.02,
        transform=transform,
        classes=[str(i) for i in range(10)],
    )


@pytest.mark.parametrize(("bits", "pixels"), [(8, 640 + 8), (16, 1280), (32, 2560)])
def test_bytes_by_hand(real: ImageSet, bits: int, pixels: int):
    """10 images of 64 pixels, a byte a label, 2 a soft label, 4 a step size; 8 of the transform, and of the scale."""
    counts = count_bytes(arrays_of(made(fit_transform(real, "standard")), bits))
    assert counts == {
        "pixels": pixels, "labels": 10, "soft_labels": 200, "step_size": 4, "transform": 8, "total": pixels + 222
    }  # fmt: skip


def test_a_whitening_transform_counts(real: ImageSet):
    """64 means and a matrix of 64 x 64, in float32."""
    counts = count_bytes(arrays_of(made(fit_transform(real, "zca")), 8))
    assert counts["transform"] == 4 * (64 + 64 * 64)


@pytest.mark.parametrize("kind", ["standard", "zca"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_what_is_read_is_what_was_made_but_for_rounding(real: ImageSet, tmp_path: Path, kind, bits: int):
    """Within half a step: of 255 in the channel's range, of half precision, or nothing; also when stored once more."""
    condensed = made(fit_transform(real, kind))
    write_condensed(tmp_path / "out", condensed, bits, {"stage": "test"}, [{"iteration": 0, "loss": 1.0}])
    found = read_condensed(tmp_path / "out")
    write_condensed(tmp_path / "again", found, bits, {}, [])
    assert np.allclose(read_condensed(tmp_path / "again").pixels, found.pixels, rtol=0, atol=1e-6)
    assert np.array_equal(found.labels, condensed.labels)
    bound = {8: np.ptp(condensed.pixels) / 255 / 2 * 1.001, 16: 2**-11 * 4, 32: 0.0}[bits]
    assert np.abs(found.pixels - condensed.pixels).max() <= bound
    assert found.soft_labels is not None and condensed.soft_labels is not None
    assert np.allclose(found.soft_labels, condensed.soft_labels, atol=2e-3)
    assert found.step_size == pytest.approx(0.02)
    assert np.array_equal(found.transform.scale, condensed.transform.scale)


def test_real_images_are_kept_exactly_and_cost_a_byte_a_pixel(real: ImageSet, tmp_path: Path):
    transform = fit_transform(real, "zca")
    taken = real.take(np.array([3, 5, 8]))
    condensed = CondensedSet(
        pixels=transform.apply(taken.pixels),
        labels=taken.labels,
        transform=transform,
        classes=real.classes,
        raw=taken.pixels,
    )
    counts = write_condensed(tmp_path / "out", condensed, 8, {}, [])
    found = read_condensed(tmp_path / "out")
    assert counts["pixels"] == 3 * 64
    assert np.array_equal(found.pixels, condensed.pixels)
    assert found.raw is not None and np.array_equal(found.raw, taken.pixels)
    assert np.array_equal(read_images(tmp_path / "out").pixels, taken.pixels)


def test_datasets_shows_images(real: ImageSet, tmp_path: Path):
    condensed = made(fit_transform(real, "standard"), soft=False)
    write_condensed(tmp_path / "out", condensed, 8, {}, [])
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "out" / "part-*.parquet"), split="train",
                                 cache_dir=str(tmp_path / "cache"))  # fmt: skip
    assert isinstance(rows.features["image"], datasets.Image)
    assert [rows[i]["label"] for i in range(10)] == list(range(10))
    assert np.array(rows[0]["image"]).shape == (8, 8)


def test_equal_sets_give_equal_bytes(real: ImageSet, tmp_path: Path):
    condensed = made(fit_transform(real, "zca"))
    for name in ("a", "b"):
        write_condensed(tmp_path / name, condensed, 8, {}, [])
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == ["condensed.safetensors", "loss.json", "manifest.json", "part-00000.parquet", "rejections.parquet"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_a_constant_channel_is_stored_as_it_is(real: ImageSet, tmp_path: Path):
    condensed = made(fit_transform(real, "standard"))
    condensed.pixels[:] = 0.375
    write_condensed(tmp_path / "out", condensed, 8, {}, [])
    assert np.array_equal(read_condensed(tmp_path / "out").pixels, condensed.pixels)


def test_a_file_cut_short_and_a_folder_without_a_set_are_named(real: ImageSet, tmp_path: Path):
    write_condensed(tmp_path / "out", made(fit_transform(real, "standard")), 8, {}, [])
    file = tmp_path / "out" / "condensed.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"condensed\.safetensors: cannot be read .*; condense again"):
        read_condensed(tmp_path / "out")
    file.unlink()
    with pytest.raises(DataError, match="no condensed set"):
        read_condensed(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["images_are"] == "made"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("step_size", np.nan, "step_size holds NaN or infinity"),
        ("step_size", 0.0, "step_size is 0.0, students need one above 0"),
        ("soft_labels", np.inf, "soft_labels holds NaN or infinity"),
        ("scale", np.nan, "pixels holds NaN or infinity"),
    ],
)
def test_numbers_that_cannot_be_are_named(real: ImageSet, tmp_path: Path, name: str, value: float, said: str):
    write_condensed(tmp_path / "out", made(fit_transform(real, "standard")), 8, {}, [])
    file = tmp_path / "out" / "condensed.safetensors"
    arrays = load_file(file)
    arrays[name].flat[0] = value
    save_file(arrays, file)
    with pytest.raises(DataError, match=rf"condensed\.safetensors: {said}.*; condense again"):
        read_condensed(tmp_path / "out")
