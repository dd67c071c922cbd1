"""Oracles: an unbroken run's bytes, after a SIGKILL and over a cluster; each expert's accuracy by its module alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from condense.nets.opening import open_net
from condense.stages.experts import STAGE
from condense.trajectories import Trajectories, part
from datagen.contracts.images import read_images
from datagen.contracts.stage import main
from tests.waiting import wait_until

SETTINGS = ["net=convnet2", "width=3", "n_trajectories=3", "epochs=3", "batch_size=64", "n_threads=1",
            "learning_rate=0.05"]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def arguments(images: Path, out: Path, *settings: str) -> list[str]:
    return ["--images", str(images), "--out", str(out), "--metrics", f"{out}.json", "--set", *SETTINGS, *settings]


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.fixture
def unbroken(digits: Path, tmp_path: Path) -> dict[str, str]:
    assert main(STAGE, arguments(digits, tmp_path / "unbroken")) == 0
    return hashes(tmp_path / "unbroken")


def test_what_is_written(digits: Path, tmp_path: Path, home: Path):
    assert main(STAGE, arguments(digits, tmp_path / "out")) == 0
    images, trajectories = read_images(digits), Trajectories(tmp_path / "out")
    metrics = json.loads((tmp_path / "out.json").read_text())
    pixels = torch.from_numpy(trajectories.transform.apply(images.pixels))
    np.testing.assert_allclose(pixels.mean((0, 2, 3)), 0, atol=1e-5)
    module = open_net("convnet2", (1, 8, 8), 10, width=3, seed=0)
    accuracies = list[float]()
    for index in range(3):
        nn.utils.vector_to_parameters(trajectories.at(index, 3), module.parameters())
        accuracies.append((module(pixels).argmax(1).numpy() == images.labels).mean())
    assert trajectories.manifest["train_accuracy"] == pytest.approx(accuracies)
    assert metrics["train_accuracy"] == pytest.approx(np.mean(accuracies))
    assert metrics["train_accuracy_lowest"] == pytest.approx(min(accuracies))
    assert set(hashes(tmp_path / "out")) == {part(0), part(1), part(2), "transform.safetensors", "manifest.json"}
    facts = json.loads((tmp_path / "out.run.json").read_text())
    assert facts["n_trained"] == 3 and facts["seconds_an_epoch"] > 0
    assert not list(home.rglob("part-*"))


def test_an_expert_depends_on_its_number_alone(digits: Path, tmp_path: Path, unbroken: dict[str, str]):
    assert main(STAGE, arguments(digits, tmp_path / "fewer", "n_trajectories=1")) == 0
    assert hashes(tmp_path / "fewer")[part(0)] == unbroken[part(0)]
    assert main(STAGE, arguments(digits, tmp_path / "other", "n_trajectories=1", "seed=1")) == 0
    assert hashes(tmp_path / "other")[part(0)] != unbroken[part(0)]


def test_a_killed_run_goes_on(
    digits: Path, tmp_path: Path, home: Path, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    # a second expert that waits for ever, so that the kill comes between two experts
    os.mkfifo(tmp_path / "never")
    code = f"""
import condense.experts._training as training
train, done = training.train_expert, []
def wait(plan, images, transform, index):
    if index == 1:
        open({str(tmp_path / "never")!r})
    return train(plan, images, transform, index)
training.train_expert = wait
from condense.stages.experts import STAGE
from datagen.contracts.stage import main
main(STAGE, {arguments(digits, out)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"DATASTILL_HOME": str(home)})
    assert wait_until(lambda: any(home.rglob(part(0))))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert main(STAGE, arguments(digits, out)) == 0
    assert json.loads((tmp_path / "out.run.json").read_text())["n_trained"] == 2
    assert hashes(out) == unbroken


def test_a_cluster_trains_the_same(digits: Path, tmp_path: Path, unbroken: dict[str, str]):
    """In a process of its own, with which what multiprocessing starts beside the workers ends too."""
    command = [sys.executable, "-m", "condense.stages.experts", *arguments(digits, tmp_path / "out")]
    subprocess.run(command, env=os.environ | {"DASK_SCHEDULER_ADDRESS": "local", "DATASTILL_WORKERS": "2"}, check=True)
    assert hashes(tmp_path / "out") == unbroken


def test_torchrun_trains_the_same(
    digits: Path, tmp_path: Path, home: Path, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """Two processes, one of which has two experts; killed after one, the next run trains two."""
    out, command = tmp_path / "out", [sys.executable, "-m", "condense.stages.experts"]
    environment = os.environ | {"DATASTILL_HOME": str(home), "DATASTILL_PROCESSES": "2"}
    with subprocess.Popen([*command, *arguments(digits, out)], env=environment) as process:
        assert wait_until(lambda: any(home.rglob(part(0))) or any(home.rglob(part(1))))
        process.send_signal(signal.SIGKILL)
    commands = lambda: [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]  # noqa: E731
    assert wait_until(lambda: not any("datagen.contracts.launch" in one for one in commands()))
    kept = len([*home.rglob("part-*.safetensors")])
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    assert main(STAGE, arguments(digits, out)) == 0
    assert hashes(out) == unbroken
    assert json.loads((tmp_path / "out.run.json").read_text()).get("n_trained", 0) == 3 - kept
    assert not any(home.rglob(part(0)))


def test_torchrun_and_a_cluster_at_once_are_refused(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "local")
    assert main(STAGE, arguments(digits, tmp_path / "out")) == 2
    assert "experts go to one of the two; unset one" in capsys.readouterr().err


def test_torchrun_says_what_is_wrong(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    assert main(STAGE, arguments(digits, tmp_path / "out", "learning_rate=1e39")) == 2
    assert "learning_rate: the expert's parameters became infinite in epoch 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_half_precision_is_near(digits: Path, tmp_path: Path, unbroken: dict[str, str]):
    """Other bytes, since it rounds, and after three epochs within a twentieth of the way from where experts began."""
    assert main(STAGE, arguments(digits, tmp_path / "out", "precision=bfloat16")) == 0
    half, full = Trajectories(tmp_path / "out"), Trajectories(tmp_path / "unbroken")
    assert hashes(tmp_path / "out")[part(0)] != unbroken[part(0)]
    for i in range(3):
        assert torch.equal(half.at(i, 0), full.at(i, 0))
        way = (full.at(i, 3) - full.at(i, 0)).norm()
        assert 0 < (half.at(i, 3) - full.at(i, 3)).norm() < 0.05 * way


def test_whitened_images(digits: Path, tmp_path: Path):
    assert main(STAGE, arguments(digits, tmp_path / "out", "transform=zca", "n_trajectories=1", "epochs=1")) == 0
    transform = Trajectories(tmp_path / "out").transform
    assert transform.kind == "zca" and transform.scale.shape == (64, 64)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["net=convnet9"], "net: convnet9 pools 9 times, images of 8 x 8 are too small"),
        (["net=convnet2-batch"], "net: has state that is no parameter"),
        (["net=lenet"], "net: no net 'lenet'; there are convnet,"),
        (["method=adam"], "method: no 'adam' in condense.experts; there are flat_minima, sgd, smooth"),
        (["momentum=0.9"], "momentum: unknown parameter"),
        (["precision=tf32"], "precision: tf32 is CUDA's"),
        (["augmentation=flip"], "augmentation: Input should be"),
        (["learning_rate=1e39"], "learning_rate: the expert's parameters became infinite in epoch 1 (got 1e+39)"),
    ],
)
def test_params_that_cannot_be(
    digits: Path, tmp_path: Path, settings: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(STAGE, arguments(digits, tmp_path / "out", *settings)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A class without images; one grey level; labels missing."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)
    labels = np.arange(6) % 2
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"image": pixels, "label": labels, "class_names": np.array(["a", "b", "c"])}, "class 'c' has 0 images"),
        ({"image": np.zeros_like(pixels), "label": labels}, "channel 0 has one value"),
        ({"image": pixels}, "has no array label"),
        ({"image": pixels / np.nan, "label": labels}, "image is float64 with NaN or infinity"),
    )
    for arrays, said in cases:
        np.savez(tmp_path / "images.npz", **arrays)
        assert main(STAGE, arguments(tmp_path / "images.npz", tmp_path / "out")) == 3
        assert said in capsys.readouterr().err
