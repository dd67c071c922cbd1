"""Oracles: trajectory_matching where all is off; formulas of the paper's code, by hand."""

import math
from pathlib import Path

import pytest
import torch

from condense.images.smooth_trajectory_matching import (
    Config,
    balance,
    intermediate_weights,
    perturbed,
    representative,
    smooth_trajectory_matching,
)
from condense.images.trajectory_matching import Config as PlainConfig
from condense.images.trajectory_matching import trajectory_matching
from condense.trajectories import Trajectories
from tests.condense.images.tasks import SMALL, make_task

OFF = {
    "initial": "at_random",
    "inner_momentum": 0.0,
    "balanced_loss": False,
    "intermediate": "none",
    "perturbation": 0.0,
}


@pytest.mark.parametrize("augmentation", ["none", "color_crop_cutout_scale_rotate"])
def test_all_off_is_trajectory_matching_bit_for_bit(digits: Path, experts: Path, augmentation: str):
    settings = SMALL | {"expert_epochs": 2, "iterations": 8, "augmentation": augmentation}
    one = make_task(digits, Trajectories(experts))
    plain, smooth = (
        trajectory_matching(PlainConfig.model_validate(settings), one),
        smooth_trajectory_matching(Config.model_validate(settings | OFF), one),
    )
    for i in range(8):
        assert plain.step(i) == smooth.step(i)
    assert torch.equal(plain.result().pixels, smooth.result().pixels)
    assert plain.result().step_size == smooth.result().step_size


@pytest.mark.parametrize(
    "part",
    [{"initial": "representative"}, {"inner_momentum": 0.9}, {"balanced_loss": True}, {"intermediate": "equal"},
     {"intermediate": "growing"}, {"perturbation": 1.0}],
)  # fmt: skip
def test_each_part_does_something(digits: Path, experts: Path, part: dict[str, object]):
    settings = SMALL | OFF | {"expert_epochs": 2}
    one = make_task(digits, Trajectories(experts))
    assert smooth_trajectory_matching(Config.model_validate(settings), one).step(0) != smooth_trajectory_matching(
        Config.model_validate(settings | part), one
    ).step(0)


def test_balance_by_hand():
    """H = 10 // 2; log5(8) = 1.292 at t = h, and just before it 1 / log5(9)."""
    assert balance(5, 10) == pytest.approx(1.2920, abs=1e-4)
    assert balance(4, 10) == pytest.approx(math.log(5) / math.log(9))
    assert all(balance(t, 10) > 0 for t in range(10))
    assert [balance(t, 10) for t in range(10)] == sorted(balance(t, 10) for t in range(10))


def test_intermediate_weights_by_hand():
    assert intermediate_weights("equal", 3) == [1, 1]
    assert intermediate_weights("growing", 4) == [0.25, 0.5, 0.75]
    assert intermediate_weights("none", 2) == [0]
    assert intermediate_weights("equal", 1) == []


@pytest.mark.parametrize("images_per_class", [1, 3, 12])
def test_representative_images_are_distinct_and_of_their_class(digits: Path, experts: Path, images_per_class: int):
    """Exactly as many as asked for, also below ten, where the papers' code takes none."""
    one = make_task(digits, Trajectories(experts), images_per_class)
    places = representative(one)
    assert len(set(places)) == len(places) == 10 * images_per_class
    assert one.labels[places].tolist() == [label for label in range(10) for _ in range(images_per_class)]


def test_only_convolutions_are_perturbed_and_by_a_direction_of_norm_one(experts: Path):
    trajectories = Trajectories(experts)
    theta = trajectories.at(0, 2)
    moved = perturbed(theta, trajectories.net, 0.5, seed=3)
    for before, after in zip(
        trajectories.net.parts(theta).values(), trajectories.net.parts(moved).values(), strict=True
    ):
        if before.dim() == 4:
            assert float(((after - before) / before / 0.5).norm()) == pytest.approx(1, rel=1e-3)
        else:
            assert torch.equal(before, after)
    assert torch.equal(moved, perturbed(theta, trajectories.net, 0.5, seed=3))
