"""Oracles: the kernel's closed forms stand in test_matching.py; here, what a run does to its set."""

from pathlib import Path
from typing import Any

import pytest
import torch

from condense.images import Task
from condense.images._learning import draw_segment
from condense.images.trajectory_matching import Config, trajectory_matching
from condense.trajectories import Trajectories
from datagen.contracts.errors import ParamsError
from tests.condense.images.tasks import SMALL, check_resumes, make_task


@pytest.fixture
def trajectories(experts: Path) -> Trajectories:
    return Trajectories(experts)


def run(settings: dict[str, Any], one: Task) -> tuple[list[float], Any]:
    learner = trajectory_matching(Config.model_validate(settings), one)
    return [learner.step(i) for i in range(learner.n_iterations)], learner.result()


def test_the_students_come_nearer_to_the_experts(digits: Path, trajectories: Trajectories):
    """The loss of the last ten iterations is below that of the first ten; oracle: it is 1 where a student stays put."""
    losses, learned = run(SMALL, make_task(digits, trajectories))
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])
    assert learned.pixels.shape == (10, 1, 8, 8) and learned.labels.tolist() == list(range(10))
    assert learned.step_size > 0 and learned.step_size != 0.05


def test_it_starts_from_real_images_of_each_class(digits: Path, trajectories: Trajectories):
    one = make_task(digits, trajectories, images_per_class=3)
    learned = trajectory_matching(Config.model_validate(SMALL), one).result()
    assert learned.labels.tolist() == [label for label in range(10) for _ in range(3)]
    places = [int((one.images == image).flatten(1).all(1).nonzero()[0, 0]) for image in learned.pixels]
    assert len(set(places)) == 30
    assert one.labels[places].tolist() == learned.labels.tolist()


@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_adjoint_makes_the_set_that_autograd_makes(
    digits: Path, trajectories: Trajectories, batch_size: int | None
):
    """Ten iterations with SGD; Adam would blow rounding up."""
    settings = SMALL | {"iterations": 10, "optimizer": "sgd", "image_learning_rate": 10.0, "batch_size": batch_size}
    exact, unrolled = (
        run(settings | {"gradient": name}, make_task(digits, trajectories)) for name in ("adjoint", "unrolled")
    )
    assert exact[0] == pytest.approx(unrolled[0], rel=1e-4)
    assert torch.allclose(exact[1].pixels, unrolled[1].pixels, rtol=1e-3, atol=1e-4)


def test_a_resumed_run_is_an_unbroken_one(digits: Path, trajectories: Trajectories):
    """From the state after 12 of 30 iterations."""
    one = make_task(digits, trajectories)
    config = Config.model_validate(SMALL | {"augmentation": "color_crop_cutout_scale_rotate"})
    check_resumes(lambda: trajectory_matching(config, one), 12)


def test_a_rate_of_zero_keeps_the_step_size(digits: Path, trajectories: Trajectories):
    _, learned = run(SMALL | {"iterations": 3, "step_size_learning_rate": 0.0}, make_task(digits, trajectories))
    assert learned.step_size == pytest.approx(0.05, rel=1e-6)


def test_every_expert_comes_once_before_one_comes_again(trajectories: Trajectories):
    """And epochs stay in the window."""
    segments = [draw_segment(trajectories, 5, i, range(1, 4), "cpu") for i in range(8)]
    assert all({segments[i].expert, segments[i + 1].expert} == {0, 1} for i in range(0, 8, 2))
    assert {one.epoch for one in segments} <= {1, 2, 3}


def test_a_window_beyond_the_experts_end_is_refused(digits: Path, trajectories: Trajectories):
    with pytest.raises(ParamsError, match=r"max_start_epoch: a segment starts at epoch 5 .* takes 2 epochs, .* for 6"):
        run(SMALL | {"max_start_epoch": 6, "expert_epochs": 2}, make_task(digits, trajectories))
    with pytest.raises(ParamsError, match="method: trajectory_matching follows experts"):
        run(SMALL, make_task(digits, None))
