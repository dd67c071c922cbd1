"""Oracles: an unbroken run's bytes, the set before a divergence, images counted and looked up by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from condense.condensed import read_condensed
from condense.stages.condense_images import STAGE
from datagen.contracts.images import read_images
from datagen.contracts.stage import main

MATCHING = ["method=trajectory_matching", "iterations=40", "student_steps=4", "expert_epochs=1", "max_start_epoch=4",
            "optimizer=adam", "image_learning_rate=0.1", "step_size=0.05", "step_size_learning_rate=0.02",
            "augmentation=none", "n_threads=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def arguments(digits: Path, out: Path, *settings: str, experts: Path | None = None) -> list[str]:
    given = ["--experts", str(experts)] if experts else []
    return ["--images", str(digits), *given, "--out", str(out), "--metrics", str(out) + ".json", "--set", *settings]


def test_a_condensed_set_with_its_figures(digits: Path, experts: Path, tmp_path: Path):
    """A byte a pixel, a label, the step size, scale and offset, mean and deviation: 640 + 10 + 4 + 8 + 8."""
    assert main(STAGE, arguments(digits, tmp_path / "out", *MATCHING, experts=experts)) == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    condensed = read_condensed(tmp_path / "out")
    assert metrics["bytes"]["total"] == 670
    assert metrics["iterations"] == 40 and metrics["loss_last_10"] < metrics["loss_first"]
    assert condensed.labels.tolist() == list(range(10))
    assert metrics["step_size"] == pytest.approx(condensed.step_size)
    curve = json.loads((tmp_path / "out" / "loss.json").read_text())
    assert [one["iteration"] for one in curve] == list(range(40))
    assert not list((tmp_path / "home" / "checkpoints").glob("*/step-*"))


def test_a_killed_run_goes_on_to_the_same_bytes(digits: Path, experts: Path, tmp_path: Path, home: Path):
    command = [sys.executable, "-m", "condense.stages.condense_images"]
    settings = [*MATCHING, "augmentation=color_crop_cutout_scale_rotate", "iterations=150"]
    environment = os.environ | {"DATASTILL_CHECKPOINT_S": "0", "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [*command, *arguments(digits, tmp_path / "out", *settings, experts=experts)], env=environment
    )
    while not any(int(one.name[5:]) >= 20 for one in (home / "checkpoints").glob("*/step-*")):
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "out").exists()
    done = subprocess.run([*command, *arguments(digits, tmp_path / "out", *settings, experts=experts)], env=environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "goes on after iteration" in done.stderr
    assert main(STAGE, arguments(digits, tmp_path / "unbroken", *settings, experts=experts)) == 0
    for file in (tmp_path / "unbroken").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes(), file.name


def test_a_run_that_diverges_keeps_its_last_good_set_and_says_where(digits: Path, experts: Path, tmp_path: Path):
    """A step size that explodes in the students; oracle: the set of a run that ends just before."""
    wild = [*MATCHING, "optimizer=sgd", "image_learning_rate=1e30", "iterations=9"]
    assert main(STAGE, arguments(digits, tmp_path / "out", *wild, experts=experts)) == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    at = metrics["diverged_at"]
    assert 0 < at < 9
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["diverged_at"] == at
    kept = read_condensed(tmp_path / "out")
    assert np.isfinite(kept.pixels).all()
    assert metrics["iterations"] == at


def test_a_resumed_run_that_diverges_keeps_what_an_unbroken_one_keeps(digits: Path, experts: Path, tmp_path: Path):
    """Killed in the iteration before the loss is not finite: the set of its checkpoint is the bad one already."""
    wild = [*MATCHING, "optimizer=sgd", "image_learning_rate=1e30", "iterations=9"]
    assert main(STAGE, arguments(digits, tmp_path / "unbroken", *wild, experts=experts)) == 0
    at = json.loads((tmp_path / "unbroken.json").read_text())["diverged_at"]
    script = (
        "import os, signal, sys; from condense.stages.condense_images import STAGE, main, Checkpoints\n"
        "commit = Checkpoints.commit\n"
        "def die(self, step):\n"
        f"    commit(self, step)\n    step == {at} and os.kill(os.getpid(), signal.SIGKILL)\n"
        "Checkpoints.commit = die\nmain(STAGE, sys.argv[1:])"
    )
    environment = os.environ | {"DATASTILL_CHECKPOINT_S": "0", "OMP_NUM_THREADS": "1"}
    given = arguments(digits, tmp_path / "out", *wild, experts=experts)
    died = subprocess.run([sys.executable, "-c", script, *given], env=environment, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert main(STAGE, given) == 0
    assert json.loads((tmp_path / "out.json").read_text())["diverged_at"] == at
    resumed, unbroken = (read_condensed(tmp_path / name).pixels for name in ("out", "unbroken"))
    assert np.array_equal(resumed, unbroken)


@pytest.mark.parametrize("method", ["trajectory_matching", "smooth_trajectory_matching", "difficulty_aligned"])
def test_the_papers_windows_end_where_the_experts_do(digits: Path, experts: Path, tmp_path: Path, method: str):
    """Six epochs of experts, and no word of a window: nothing to set but the method."""
    given = [f"method={method}", "images_per_class=1", "seed=0", "iterations=2"]
    assert main(STAGE, arguments(digits, tmp_path / "out", *given, experts=experts)) == 0
    assert len(read_condensed(tmp_path / "out")) == 10


def test_iterations_above_the_bound_are_counted(digits: Path, experts: Path, tmp_path: Path):
    """A bound that no loss is below; oracle: the set is that of the start, the mean of what the experts get right."""
    given = ["method=difficulty_aligned", "iterations=3", "student_steps=2", "max_loss=1e-9", "augmentation=none"]
    assert main(STAGE, arguments(digits, tmp_path / "out", *given, experts=experts)) == 0
    assert json.loads((tmp_path / "out.json").read_text())["skipped"] == 3


@pytest.mark.parametrize("method", ["at_random", "k_means", "herding", "k_center", "forgetting"])
def test_a_coreset_is_real_images(digits: Path, experts: Path, tmp_path: Path, method: str):
    """Each of its images is one of the set, of its class, and none comes twice."""
    given = [f"method={method}", "images_per_class=2"]
    assert main(STAGE, arguments(digits, tmp_path / "out", *given, experts=experts)) == 0
    images, condensed = read_images(digits), read_condensed(tmp_path / "out")
    assert condensed.raw is not None
    places = [int(np.flatnonzero((images.pixels == one).all((1, 2, 3)))[0]) for one in condensed.raw]
    assert len(set(places)) == 20
    assert images.labels[places].tolist() == [label for label in range(10) for _ in range(2)]
    assert json.loads((tmp_path / "out.json").read_text())["bytes"]["pixels"] == 20 * 64


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["method=trajectory_matchin"], "method: no 'trajectory_matchin'; there are at_random, "),
        (["method=trajectory_matching", "net=convnet2"], "method: trajectory_matching follows experts; give those of"),
        (["method=trajectory_matching"], "net: of_experts, and there are no --experts; give them, or name a net"),
        (["method=k_means", "features=expert"], "features: expert, and there are no --experts"),
        (["method=k_means", "images_per_class=40"], "images and needs 40; add some, or ask for fewer"),
    ],
)
def test_bad_settings_are_named(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings, says):
    assert main(STAGE, arguments(digits, tmp_path / "out", *settings)) in (2, 3)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("transform=zca", "transform: the experts in {} have standard (got zca); leave it out, or give none"),
        ("width=5", "width: the experts in {} have 4 (got 5); leave it out, or give none"),
        ("net=mlp", "net: the experts in {} have convnet2 (got mlp); leave it out, or give none"),
    ],
)
def test_what_the_experts_have_is_not_set_otherwise(
    digits: Path, experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, says: str
):
    assert main(STAGE, arguments(digits, tmp_path / "out", *MATCHING, setting, experts=experts)) == 2
    assert says.format(experts) in capsys.readouterr().err
