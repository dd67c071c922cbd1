"""Oracles: trajectory matching itself, where labels are hard; windows and means by hand; experts asked one by one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from condense.images import Task
from condense.images._aligned import LABEL_MOMENTUM, AlignedLearner, expert_logits, rightly_predicted, window
from condense.images._learning import Variables, draw_segment, inner_loss, real_images
from condense.images._learning import at_random as drawn_at_random
from condense.images._matching import Matched, Target, matching_adjoint
from condense.images.difficulty_aligned import Config, difficulty_aligned
from condense.images.trajectory_matching import Config as MttConfig
from condense.images.trajectory_matching import trajectory_matching
from condense.trajectories import Trajectories
from datagen.contracts.errors import DataError, ParamsError
from tests.condense.images.tasks import check_resumes, make_task

SHARED: dict[str, Any] = {
    "iterations": 6, "student_steps": 4, "expert_epochs": 1, "max_start_epoch": 4, "batch_size": 8,
    "optimizer": "sgd", "image_learning_rate": 10.0, "step_size": 0.05, "step_size_learning_rate": 0.02,
    "augmentation": "color_crop_cutout_scale_rotate",
}  # fmt: skip
SMALL = SHARED | {
    "label_learning_rate": 2.0,
    "min_start_epoch": 1,
    "first_max_start_epoch": 3,
    "expansion_iterations": 4,
    "max_loss": 10.0,
}


@pytest.fixture
def trajectories(experts: Path) -> Trajectories:
    return Trajectories(experts)


@pytest.fixture
def task(digits: Path, trajectories: Trajectories) -> Task:
    return make_task(digits, trajectories, images_per_class=2, seed=3)


def test_the_window_by_hand():
    config = Config.model_validate(
        {"min_start_epoch": 2, "first_max_start_epoch": 10, "max_start_epoch": 20, "expansion_iterations": 1000}
    )
    found = {iteration: window(config, 20, iteration) for iteration in (0, 99, 100, 500, 999, 1000, 9000)}
    assert found == {
        0: range(2, 10), 99: range(2, 10), 100: range(2, 11), 500: range(2, 15), 999: range(2, 19),
        1000: range(2, 20), 9000: range(2, 20),
    }  # fmt: skip
    still = Config.model_validate({"min_start_epoch": 0, "first_max_start_epoch": 4, "max_start_epoch": 4})
    assert {window(still, 4, iteration) for iteration in range(0, 3000, 100)} == {range(4)}


def test_a_segment_starts_inside_the_window_and_reaches_its_ends(trajectories: Trajectories):
    config = Config.model_validate(SMALL)
    drawn = [draw_segment(trajectories, 0, i, window(config, 4, i), "cpu").epoch for i in range(60)]
    assert set(drawn[:2]) <= {1, 2} and set(drawn) == {1, 2, 3}
    first = [draw_segment(trajectories, seed, 0, window(config, 4, 0), "cpu").epoch for seed in range(30)]
    assert set(first) == {1, 2}


@pytest.mark.parametrize("batch_size", [None, 8])
def test_hard_labels_that_are_not_learned_give_trajectory_matching(
    task: Task, trajectories: Trajectories, batch_size: int | None
):
    """Logits whose softmax is 1 and 0s, label_learning_rate 0, no mean, no skip, the window of MTT, its images."""
    shared = SHARED | {"batch_size": batch_size}
    settings = {
        "first_max_start_epoch": 4,
        "label_learning_rate": 0,
        "average_decay": 0,
        "max_loss": 1e9,
    }
    pixels, labels = real_images(task, drawn_at_random(task))
    hard = 1e4 * torch.nn.functional.one_hot(labels, 10).float()
    aligned = AlignedLearner(Config.model_validate(shared | settings), task, trajectories, 4, pixels, labels, hard)
    plain = trajectory_matching(MttConfig.model_validate(shared), task)
    losses = [(aligned.step(i), plain.step(i)) for i in range(6)]
    assert [one for one, _ in losses] == pytest.approx([one for _, one in losses], rel=1e-4)
    found, expected = aligned.result(), plain.result()
    assert torch.allclose(found.pixels, expected.pixels, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found.pixels, pixels, atol=1e-3)
    assert found.step_size == pytest.approx(expected.step_size, rel=1e-4)
    assert found.soft_labels is not None and torch.equal(found.soft_labels, hard)


def test_soft_labels_are_learned_and_a_row_s_sum_stays(task: Task):
    """A constant added to a row of logits changes nothing, so the gradient of a row sums to 0: SGD keeps its mean."""
    learner = difficulty_aligned(Config.model_validate(SMALL | {"average_decay": 0}), task)
    before = learner.result().soft_labels
    for i in range(6):
        learner.step(i)
    after = learner.result().soft_labels
    assert before is not None and after is not None
    assert (after - before).abs().max() > 1e-4
    assert torch.allclose(after.sum(1), before.sum(1), atol=1e-4)


def test_the_slope_in_a_soft_label_by_finite_differences(task: Task, trajectories: Trajectories):
    """In float64, two inner steps of the experts' net; the largest slope and three others, to 1e-6."""
    pixels, _ = real_images(task, drawn_at_random(task))
    draw = torch.Generator().manual_seed(0)
    data = pixels.double(), torch.randn(20, 10, generator=draw, dtype=torch.float64)
    start, end = (trajectories.at(0, epoch).double() for epoch in (1, 2))
    loss, step_size = inner_loss(trajectories.net, None, [None, None], "none", 0), torch.tensor(0.5).double()
    target = Target(2, end, (start - end).square().sum())

    def matched(soft_labels: torch.Tensor) -> Matched:
        return matching_adjoint(loss, start, (data[0], soft_labels), step_size, 2, [target])

    slope = matched(data[1]).data[1]
    for place in [int(slope.abs().argmax()), 3, 57, 199]:
        moved = torch.zeros(200).double()
        moved[place] = 1e-4
        up, down = (matched(data[1] + sign * moved.view(20, 10)).loss.item() for sign in (1, -1))
        assert slope.flatten()[place].item() == pytest.approx((up - down) / 2e-4, rel=1e-6, abs=1e-10)


def test_soft_labels_have_a_momentum_of_their_own(task: Task):
    """Two steps of SGD at a slope of 1 go 2 + momentum times the rate: 2.9 for soft labels, 2.5 for pixels."""
    both = {"soft_labels": torch.zeros(1), "pixels": torch.zeros(1)}
    variables = Variables(both, {"soft_labels": 0.1, "pixels": 0.1}, "sgd", {"soft_labels": LABEL_MOMENTUM})
    for _ in range(2):
        variables.update({name: torch.ones(1) for name in both})
    assert variables["soft_labels"].item() == pytest.approx(-0.29)
    assert variables["pixels"].item() == pytest.approx(-0.25)
    state = difficulty_aligned(Config.model_validate(SMALL), task).state_dict()["variables"]
    momenta = [group["momentum"] for group in state["optimizer"]["param_groups"]]
    assert dict(zip(state["tensors"], momenta, strict=True)) == {
        "pixels": 0.5,
        "soft_labels": 0.9,
        "log_step_size": 0.5,
    }


def test_the_mean_over_the_iterations_by_hand(task: Task):
    """Decay 1/2 after three iterations: (4 S3 + 2 S2 + S1) / 7; decay 0: the last set; before the first: the start."""
    last, mean = (
        difficulty_aligned(Config.model_validate(SMALL | {"average_decay": decay}), task) for decay in (0.0, 0.5)
    )
    assert torch.equal(mean.result().pixels, last.result().pixels)
    sets = []
    for i in range(3):
        assert last.step(i) == mean.step(i)
        sets.append(last.result())
    found = mean.result()
    for name in ("pixels", "soft_labels"):
        one, two, three = (getattr(one, name) for one in sets)
        assert torch.allclose(getattr(found, name), (4 * three + 2 * two + one) / 7, rtol=1e-5, atol=1e-6)
    steps = [one.step_size or 0.0 for one in sets]
    assert found.step_size == pytest.approx((steps[2] ** 4 * steps[1] ** 2 * steps[0]) ** (1 / 7), rel=1e-5)
    assert not torch.equal(sets[0].pixels, sets[2].pixels)


def test_a_mean_of_what_does_not_change_is_that(task: Task):
    """With a bound below every loss nothing is learned, whatever the decay."""
    learner = difficulty_aligned(Config.model_validate(SMALL | {"max_loss": 1e-6, "average_decay": 0.9}), task)
    before = learner.result()
    losses = [learner.step(i) for i in range(3)]
    after = learner.result()
    assert min(losses) > 1e-6
    assert before.soft_labels is not None and after.soft_labels is not None
    assert torch.allclose(after.pixels, before.pixels, rtol=1e-5, atol=1e-6)
    assert torch.allclose(after.soft_labels, before.soft_labels, rtol=1e-5, atol=1e-6)
    assert after.step_size == pytest.approx(0.05, rel=1e-5)


def test_it_starts_from_images_that_an_expert_gets_right(task: Task, trajectories: Trajectories):
    """Experts asked about one image after another: the second counts only where the first gets too few right."""
    right = [
        [int(trajectories.net(trajectories.at(expert, 6), image[None]).argmax()) == label
         for image, label in zip(task.images, task.labels.tolist(), strict=True)]
        for expert in range(2)
    ]  # fmt: skip
    members = [[i for i in range(300) if task.labels[i] == label] for label in range(10)]
    most = min(sum(right[0][i] or right[1][i] for i in own) for own in members)
    chosen = rightly_predicted(dataclasses.replace(task, images_per_class=most), trajectories)
    assert len(set(chosen)) == 10 * most
    assert task.labels[chosen].tolist() == [label for label in range(10) for _ in range(most)]
    assert all(right[0][i] or right[1][i] for i in chosen)
    of_first = [sum(right[0][i] for i in own) for own in members]
    assert min(of_first) < most  # so the second was asked
    for label in range(10):
        assert sum(right[0][i] for i in chosen if task.labels[i] == label) == min(most, of_first[label])
    with pytest.raises(DataError, match=rf"its experts get {most} images of class \d right, {most + 1} are needed"):
        rightly_predicted(dataclasses.replace(task, images_per_class=most + 1), trajectories)


def test_soft_labels_start_as_the_mean_of_the_experts_that_are_right(task: Task, trajectories: Trajectories):
    chosen = rightly_predicted(task, trajectories)
    images, labels = real_images(task, chosen)
    found = expert_logits(trajectories, images, labels)
    for i in range(len(chosen)):
        rows = [trajectories.net(trajectories.at(expert, 6), images[i : i + 1])[0] for expert in range(2)]
        rows = [row for row in rows if row.argmax() == labels[i]]
        assert torch.allclose(found[i], sum(rows, torch.zeros(10)) / len(rows), atol=1e-5)
    start = difficulty_aligned(Config.model_validate(SMALL), task).result()
    assert start.soft_labels is not None and torch.equal(start.soft_labels, found)
    assert torch.equal(start.pixels, images)


def test_a_resumed_run_is_an_unbroken_one(task: Task):
    learned = check_resumes(lambda: difficulty_aligned(Config.model_validate(SMALL), task), 4)
    assert learned.soft_labels is not None and learned.step_size is not None


def test_what_cannot_be_matched_is_refused(task: Task):
    with pytest.raises(ParamsError, match="max_start_epoch: a segment starts at epoch 6"):
        difficulty_aligned(Config.model_validate(SMALL | {"max_start_epoch": 7}), task)
    with pytest.raises(ValueError, match="must be above min_start_epoch=5"):
        Config.model_validate({"min_start_epoch": 5, "first_max_start_epoch": 5})
    with pytest.raises(ValueError, match="must not be above max_start_epoch=9"):
        Config.model_validate({"max_start_epoch": 9})
