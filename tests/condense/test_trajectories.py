"""Oracles: safetensors' own reader, files cut by hand, manifests changed by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from condense.trajectories import TRANSFORM, Trajectories, part
from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageSet, read_images


@pytest.fixture
def copied(experts: Path, tmp_path: Path) -> Path:
    return shutil.copytree(experts, tmp_path / "experts")


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_parameters_are_those_of_the_files(experts: Path):
    trajectories = Trajectories(experts)
    assert len(trajectories) == 2 and trajectories.n_epochs == 6
    for index in range(2):
        held = load_file(experts / part(index))["parameters"]
        assert held.shape == (7, trajectories.net.n_parameters)
        for epoch in range(7):
            assert torch.equal(trajectories.at(index, epoch), held[epoch])
    assert not torch.equal(trajectories.at(0, 0), trajectories.at(1, 0))
    assert not torch.equal(trajectories.at(0, 5), trajectories.at(0, 6))


def test_what_is_taken_is_a_copy(experts: Path):
    trajectories = Trajectories(experts)
    before = trajectories.at(0, 3)
    wanted = before.tolist()
    before.zero_()
    assert trajectories.at(0, 3).tolist() == wanted


@pytest.mark.parametrize("epoch", [-1, 7])
def test_an_epoch_that_is_not_there(experts: Path, epoch: int):
    with pytest.raises(IndexError, match="trained for 6"):
        Trajectories(experts).at(0, epoch)


@pytest.mark.parametrize("name", [part(1), TRANSFORM])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut(copied: Path, name: str, share: float):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"{name}: cut short or damaged .*; train the experts again"):
        Trajectories(copied)


def test_a_file_that_is_missing(copied: Path):
    (copied / part(0)).unlink()
    with pytest.raises(DataError, match=f"{part(0)}: no such file; train"):
        Trajectories(copied)


def test_another_net(copied: Path):
    rewrite(copied, lambda manifest: manifest.update(width=5))
    with pytest.raises(DataError, match="parameters a net, convnet2 of width 5 has"):
        Trajectories(copied)


def test_a_file_of_fewer_epochs(copied: Path):
    rewrite(copied, lambda manifest: manifest.update(epochs=9))
    with pytest.raises(DataError, match=r"part-00000.safetensors: parameters are \(7, \d+\), expected \(10, "):
        Trajectories(copied)


def test_another_shape_of_the_transform(copied: Path):
    other = Trajectories(copied).transform
    (copied / TRANSFORM).unlink()
    from safetensors.numpy import save_file

    save_file({"mean": np.zeros(3, np.float32), "std": np.ones(3, np.float32)}, copied / TRANSFORM)
    with pytest.raises(DataError, match="fits no images of 1 x 8 x 8"):
        Trajectories(copied)
    assert other.kind == "standard"


def test_no_trajectories(tmp_path: Path, copied: Path):
    with pytest.raises(DataError, match="not a dataset directory"):
        Trajectories(tmp_path)
    rewrite(copied, lambda manifest: manifest.update(record="ImageRow"))
    with pytest.raises(DataError, match="holds ImageRow rows, no trajectories"):
        Trajectories(copied)


def test_images_that_the_experts_did_not_see(experts: Path, digits: Path):
    trajectories, images = Trajectories(experts), read_images(digits)
    trajectories.check(images)
    larger = ImageSet(
        pixels=np.pad(images.pixels, ((0, 0), (1, 1), (1, 1), (0, 0))),
        labels=images.labels,
        ids=images.ids,
        classes=images.classes,
    )
    with pytest.raises(DataError, match="saw images of 1 x 8 x 8, these are 1 x 10 x 10; train"):
        trajectories.check(larger)
    named = ImageSet(pixels=images.pixels, labels=images.labels, ids=images.ids, classes=list("abcdefghij"))
    with pytest.raises(DataError, match=r"know the classes 0, 1, .*, these images are of a, b, "):
        trajectories.check(named)
