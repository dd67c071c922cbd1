"""Oracles: characteristic functions in complex numbers by numpy; two points and a shifted sample in closed form."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condense.images import Task
from condense.images._characteristic import characteristic_distance
from condense.images.characteristic_function_matching import Config, characteristic_function_matching
from condense.trajectories import Trajectories
from datagen.contracts.errors import ParamsError
from tests.condense.images.tasks import check_resumes, make_task

SMALL: dict[str, Any] = {"iterations": 5, "batch_size": 20, "n_frequencies": 64, "image_learning_rate": 0.05}
HALF = {"amplitude_weight": 0.5, "phase_weight": 0.5}


@pytest.fixture
def task(digits: Path, experts: Path) -> Task:
    return make_task(digits, Trajectories(experts), images_per_class=2, seed=3)


def samples(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(9, 3)), draw.normal(1, 2, size=(4, 3)), draw.normal(size=(50, 3))


def distance(real: np.ndarray, condensed: np.ndarray, frequencies: np.ndarray, **weights: float) -> float:
    tensors = [torch.from_numpy(one) for one in (real, condensed, frequencies)]
    return characteristic_distance(*tensors, **weights).item()


def test_with_equal_weights_it_is_the_distance_of_complex_numbers():
    """|p - q| / sqrt(2); and the parts as the paper writes them, with the angle between p and q."""
    real, condensed, frequencies = samples(0)
    p, q = (np.exp(1j * frequencies @ one.T).mean(axis=1) for one in (real, condensed))
    assert distance(real, condensed, frequencies, **HALF) == pytest.approx(np.abs(p - q).mean() / np.sqrt(2), rel=1e-10)
    amplitude, phase = (abs(p) - abs(q)) ** 2, 2 * abs(p) * abs(q) * (1 - np.cos(np.angle(p) - np.angle(q)))
    expected = np.sqrt(0.2 * amplitude + 0.8 * phase).mean()
    assert distance(real, condensed, frequencies, amplitude_weight=0.2, phase_weight=0.8) == pytest.approx(
        expected, rel=1e-10
    )


def test_two_points_differ_in_phase_alone():
    """At x and y, |p| = |q| = 1, and the phase part is 4 sin^2(t . (x - y) / 2)."""
    x, y, frequencies = np.array([[0.3, 1.0]]), np.array([[-0.4, 0.2]]), np.array([[1.0, 2.0], [0.5, -1.0]])
    expected = np.abs(2 * np.sin(frequencies @ (x - y)[0] / 2)).mean()
    assert distance(x, y, frequencies, amplitude_weight=0.0, phase_weight=1.0) == pytest.approx(expected, rel=1e-10)
    assert distance(x, y, frequencies, amplitude_weight=1.0, phase_weight=0.0) <= 1.0001e-6


def test_a_shift_is_seen_by_the_phase_alone_and_no_difference_is_0():
    real, _, frequencies = samples(1)
    assert distance(real, real + 0.5, frequencies, amplitude_weight=1.0, phase_weight=0.0) <= 1.0001e-6
    assert distance(real, real + 0.5, frequencies, amplitude_weight=0.0, phase_weight=1.0) > 0.01
    assert distance(real, real[::-1].copy(), frequencies, **HALF) <= 1.0001e-6


def test_gradients_are_right_and_finite_where_nothing_differs():
    real, condensed, frequencies = map(torch.from_numpy, samples(2))

    def value(leaf: torch.Tensor) -> torch.Tensor:
        return characteristic_distance(real, leaf, frequencies, amplitude_weight=0.3, phase_weight=0.7)

    assert torch.autograd.gradcheck(value, (condensed.clone().requires_grad_(),))
    leaf = real.clone().requires_grad_()
    value(leaf).backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_the_sets_come_nearer(task: Task):
    """Without the cross-entropy and the augmentation the loss of the last iterations is below that of the first."""
    config = Config.model_validate(
        SMALL | {"iterations": 20, "batch_size": 1000, "calibration_weight": 0, "augmentation": "none"}
    )
    learner = characteristic_function_matching(config, task)
    losses = [learner.step(i) for i in range(20)]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_the_whole_set_is_at_no_distance_from_itself(task: Task):
    """All 8 images of each class, in another order and augmented alike: the least there is, 1e-6, everywhere."""
    rows = torch.cat([torch.nonzero(task.labels == label)[:8, 0] for label in range(10)])
    whole = dataclasses.replace(task, images=task.images[rows], labels=task.labels[rows], images_per_class=8)
    learner = characteristic_function_matching(Config.model_validate(SMALL | {"calibration_weight": 0}), whole)
    assert learner.step(0) < 10 * 300 * 2e-6


def test_the_expert_s_cross_entropy_is_added(task: Task):
    """One iteration's loss with weights 0 and 2 differs by twice the sum of the classes' means, by torch alone."""
    settings = SMALL | {"augmentation": "none"}
    without, twice = (
        characteristic_function_matching(Config.model_validate(settings | {"calibration_weight": weight}), task)
        for weight in (0.0, 2.0)
    )
    start, trajectories = twice.result(), task.trajectories
    assert trajectories is not None
    difference = twice.step(0) - without.step(0)
    found = []
    for expert in range(2):
        logits = trajectories.net(trajectories.at(expert, trajectories.n_epochs), start.pixels)
        found.append(2 * 10 * torch.nn.functional.cross_entropy(logits, start.labels).item())
    assert any(difference == pytest.approx(one, rel=1e-3) for one in found)


def test_a_resumed_run_is_an_unbroken_one(task: Task):
    check_resumes(lambda: characteristic_function_matching(Config.model_validate(SMALL), task), 3)


def test_it_needs_experts(task: Task):
    with pytest.raises(ParamsError, match="characteristic_function_matching follows experts"):
        characteristic_function_matching(Config.model_validate({}), dataclasses.replace(task, trajectories=None))
