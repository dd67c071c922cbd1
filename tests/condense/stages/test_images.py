"""Oracles: `datasets` and pyarrow as readers of what is written; images written by hand."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from condense.stages.images import STAGE
from datagen.contracts.dataset import content_hash, iterate, read_manifest
from datagen.contracts.images import read_images
from datagen.contracts.stage import main
from tests.condense.sources.test_image_file import PIXELS, encoded, write_files


def write(out: Path, *settings: str, raw: Path | None = None) -> int:
    given = ["--raw", str(raw)] if raw else []
    return main(STAGE, [*given, "--out", str(out), "--metrics", f"{out}.json", "--set", *settings])


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.json").read_text())


def test_digits_by_default(tmp_path: Path):
    out = tmp_path / "out"
    assert write(out, "split=test") == 0
    manifest, images = read_manifest(out), read_images(out)
    assert (manifest["record"], manifest["shape"], manifest["licence"]) == ("ImageRow", [1, 8, 8], "CC BY 4.0")
    assert manifest["classes"] == list("0123456789") == list(images.classes) and "UCI" in manifest["source"]
    assert len(images) == 360 and images.shape == (1, 8, 8)
    values, labels = load_digits(return_X_y=True)
    places = [int(id.removeprefix("digits-")) for id in images.ids]
    np.testing.assert_array_equal(images.labels, labels[places])
    assert np.abs(images.pixels.reshape(360, 64) - values[places] * (255 / 16)).max() <= 0.5
    counts = dict(zip("0123456789", np.bincount(labels[places]).tolist(), strict=True))
    assert metrics(out) == {"rows": {"in": 360, "out": 360, "rejected": 0}, "rejected": {}, "classes": counts}


def test_datasets_shows_an_image_column(tmp_path: Path):
    out = tmp_path / "out"
    assert write(out, "max_images=5") == 0
    rows: Any = datasets.load_dataset(
        "parquet", data_files=str(out / "part-*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(rows.features["image"], datasets.Image)
    images = read_images(out)
    assert len(rows) == 5
    for i, row in enumerate(rows):
        assert row["label"] == images.labels[i] and row["id"] == images.ids[i]
        np.testing.assert_array_equal(np.asarray(row["image"]), images.pixels[i, ..., 0])
    # only the rows that have such a column say so
    assert b"huggingface" not in (pq.read_schema(out / "rejections.parquet").metadata or {})


def test_the_schema_is_that_of_datasets(tmp_path: Path):
    assert write(tmp_path / "out", "max_images=1") == 0
    features = {"id": datasets.Value("string"), "image": datasets.Image(), "label": datasets.Value("int64")}
    wanted = datasets.Features(features).arrow_schema
    assert pq.read_schema(tmp_path / "out" / "part-00000.parquet").equals(wanted, check_metadata=True)


def test_the_same_bytes_twice(tmp_path: Path):
    assert write(tmp_path / "a", "max_images=50") == write(tmp_path / "b", "max_images=50") == 0
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


def test_what_cannot_be_used_is_counted_and_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = [encoded(PIXELS[0]), b"no image", encoded(PIXELS[1][:3]), encoded(PIXELS[2][..., 0]), encoded(PIXELS[3])]
    raw = write_files(tmp_path / "files.npz", files)
    assert write(tmp_path / "out", "method=image_file", raw=raw) == 3
    said = "files.npz: 3 of 5 images cannot be used, max_rejected_share is 0.05; the first is 'files-1': unreadable"
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert write(tmp_path / "out", "method=image_file", "max_rejected_share=0.6", raw=raw) == 0
    assert metrics(tmp_path / "out")["rejected"] == {"other_size": 2, "unreadable": 1}
    details = {row["id"]: row["detail"] for row in iterate(tmp_path / "out", "rejections")}
    assert details["files-2"] == "is 3 x 6 x 3, the first image is 4 x 6 x 3"
    assert details["files-3"] == "is 4 x 6 x 1, the first image is 4 x 6 x 3"
    np.testing.assert_array_equal(read_images(tmp_path / "out").pixels, PIXELS[[0, 3]])


def test_what_was_written_can_be_read_again(tmp_path: Path):
    assert write(tmp_path / "a", "max_images=40") == 0
    assert write(tmp_path / "b", "method=image_file", "max_images=30", raw=tmp_path / "a") == 0
    first, second = read_images(tmp_path / "a"), read_images(tmp_path / "b")
    assert first.ids[:30] == second.ids
    np.testing.assert_array_equal(first.pixels[:30], second.pixels)
    assert read_manifest(tmp_path / "b")["inputs"] == {"raw": content_hash(tmp_path / "a")}


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (["method=cifar"], 2, "method: no 'cifar' in condense.sources; there are digits, hub, image_file"),
        (["split=dev"], 2, "split: Input should be 'train', 'validation' or 'test' (got \"dev\")"),
        (["method=image_file"], 2, "--raw: method image_file needs it"),
        (["method=hub"], 2, "dataset: required, and not given"),
        (["max_images=0"], 2, "max_images: Input should be greater than or equal to 1"),
    ],
)
def test_params_that_cannot_be(
    tmp_path: Path, settings: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    assert write(tmp_path / "out", *settings) == code
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert write(tmp_path / "out", "method=image_file", raw=tmp_path / "none.npz") == 3
    assert "none.npz: no such file" in capsys.readouterr().err
