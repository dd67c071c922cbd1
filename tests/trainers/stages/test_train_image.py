"""Oracles: an unbroken run, what a bare net with the stored weights says, a problem that is learned at sight."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from condense.condensed import write_condensed
from condense.nets.opening import open_net
from condense.pixels.transform import Transform, fit_transform
from datagen.contracts.stage import check_sections, main
from tests.tiny_images import tiny_images, write_npz
from tests.trained import contents, kill_after_a_checkpoint
from trainers.image_steps import real_set
from trainers.stages.train_image import STAGE

SETTINGS = ("net=mlp", "width=16", "seeds=3", "n_steps=30", "batch_size=16", "n_threads=1", "learning_rate=0.05",
            "augmentation=color_crop_cutout_scale_rotate")  # fmt: skip


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with train.npz and test.npz."""
    write_npz(tmp_path / "train.npz", tiny_images(20))
    write_npz(tmp_path / "test.npz", tiny_images(15, seed=1))
    return tmp_path


def arguments(files: Path, out: Path, *more: str, images: Path | None = None, test: str = "test.npz") -> list[str]:
    inputs = ["--images", str(images or files / "train.npz"), "--test", str(files / test)]
    return [*inputs, "--out", str(out), "--metrics", f"{out}.json", "--set", *SETTINGS, *more]


def metrics_of(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.json").read_text())


def test_students_are_what_their_weights_say(files: Path):
    """Oracle: torch alone, from the folder's files, gives the accuracies; most of a learnable problem is learned."""
    out = files / "students"
    assert main(STAGE, arguments(files, out)) == 0
    found = metrics_of(out)["accuracy"]
    test = tiny_images(15, seed=1)
    arrays = {name: one.numpy() for name, one in load_file(out / "transform.safetensors").items()}
    seen = torch.from_numpy(Transform.of(arrays, (1, 8, 8)).apply(test.pixels))
    by_seed: list[float] = []
    for i in range(3):
        net = open_net("mlp", (1, 8, 8), 3, width=16, seed=99)
        net.load_state_dict(load_file(out / f"student-{i}.safetensors"))
        by_seed.append(float(np.mean(net(seen).argmax(1).numpy() == test.labels)))
    assert found["by_seed"] == pytest.approx(by_seed, abs=5e-5) and min(by_seed) > 0.9
    half = 4.302653 * np.std(by_seed, ddof=1) / np.sqrt(3)  # Student's t of two degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((found["mean"] - half, found["mean"] + half), abs=2e-4)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["accuracy"] == found and manifest["shape"] == [1, 8, 8]
    assert not list((files / "home").glob("checkpoints/*/[!l]*")), "what was kept is gone"


def test_a_condensed_set_brings_transform_step_size_and_soft_labels(files: Path):
    """The step size is the rate; soft labels of another class are believed, and `labels=hard` overrules them."""
    train = tiny_images(4)
    transform = fit_transform(tiny_images(20), "standard")
    logits = 8 * np.eye(3, dtype=np.float32)[(train.labels + 1) % 3]
    made = replace(real_set(train, transform, logits), step_size=0.0625)
    write_condensed(files / "made", made, 8, {}, [])
    for settings, kind, is_right in (((), "soft", False), (("labels=hard",), "hard", True)):
        out = files / kind
        more = ("learning_rate=of_images", *settings)
        assert main(STAGE, arguments(files, out, *more, images=files / "made")) == 0
        found = metrics_of(out)
        assert (found["learning_rate"], found["labels"], found["n_images"]) == (0.0625, kind, 12)
        assert (found["accuracy"]["mean"] > 0.8) == is_right and (found["accuracy"]["mean"] < 0.2) != is_right


def test_images_without_a_step_size_have_the_papers(files: Path):
    assert main(STAGE, arguments(files, files / "out", "learning_rate=of_images", "n_steps=1", "seeds=1")) == 0
    found = metrics_of(files / "out")
    assert found["learning_rate"] == 0.01 and found["n_steps"] == 1
    assert found["accuracy"].keys() == {"mean", "by_seed"}, "one seed has no interval"


def test_killed_training_ends_where_an_unbroken_one_ends(files: Path):
    """Oracle: an unbroken run, byte for byte; the kill is in the second student or after it."""
    whole, broken, home = files / "whole", files / "broken", files / "home"
    more = ("n_steps=120",)
    assert main(STAGE, arguments(files, whole, *more)) == 0
    command = [sys.executable, "-m", "trainers.stages.train_image", *arguments(files, broken, *more)]
    kill_after_a_checkpoint(command, home, "checkpoints/*/of-1/step-*")
    assert not broken.exists() and list(home.glob("checkpoints/*/student-0.safetensors"))
    assert main(STAGE, arguments(files, broken, *more)) == 0
    assert contents(broken) == contents(whole)
    assert not list(home.glob("checkpoints/*/[!l]*"))


def test_two_processes_train_as_one(files: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one process, to float32's precision, without augmentation, whose draws are each process's own."""
    more = ("augmentation=none", "seeds=2", "n_steps=6")
    assert main(STAGE, arguments(files, files / "one", *more)) == 0
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    assert main(STAGE, arguments(files, files / "two", *more)) == 0
    for i in range(2):
        one, two = (load_file(files / name / f"student-{i}.safetensors") for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=1e-6) for name in one)


def test_what_cannot_be_done_is_said_in_one_line(files: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code, one line, no output."""
    test = tiny_images(5, seed=1)
    write_npz(files / "renamed.npz", replace(test, classes=["a", "b", "c"]))
    write_npz(files / "colour.npz", tiny_images(5, channels=3))
    for settings, name, code, says in (
        (["net=convnet9"], "test.npz", 2, "convnet9 pools 9 times"),
        (["net=transformer"], "test.npz", 2, "no net 'transformer'"),
        (["learning_rate=0"], "test.npz", 2, "learning_rate"),
        (["augmentation=flip"], "test.npz", 2, "augmentation"),
        ([], "renamed.npz", 3, "its classes are a, b, c, those of the training images corner 0, corner 1, corner 2"),
        ([], "colour.npz", 3, "images are 3 x 8 x 8, the training images 1 x 8 x 8"),
        ([], "none.npz", 3, "no such file"),
        (["learning_rate=1e20"], "test.npz", 3, "diverged: its loss is"),
    ):
        assert main(STAGE, arguments(files, files / "out", *settings, test=name)) == code
        errors = capsys.readouterr().err.strip().splitlines()
        assert says in errors[-1] and not [line for line in errors if "Traceback" in line]
        assert not (files / "out").exists()


def test_the_params_file_is_checked_without_torch():
    assert check_sections({"train_image": {"net": "mlp", "seeds": 0}}) == [
        "train_image.seeds: Input should be greater than or equal to 1 (got 0)"
    ]
