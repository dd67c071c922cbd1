"""The task that the tests of trajectory matching share, and settings under which it takes a moment."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from condense.images import Learned, Learner, Task
from condense.pixels.transform import fit_transform
from condense.trajectories import Trajectories
from datagen.contracts.images import read_images

SMALL: dict[str, Any] = {
    "iterations": 30, "student_steps": 4, "expert_epochs": 1, "max_start_epoch": 4, "optimizer": "adam",
    "image_learning_rate": 0.1, "step_size": 0.05, "step_size_learning_rate": 0.02, "augmentation": "none",
}  # fmt: skip


def make_task(digits: Path, trajectories: Trajectories | None, images_per_class: int = 1, seed: int = 0) -> Task:
    """All digits, as the experts saw them."""
    images = read_images(digits)
    transform = fit_transform(images, "standard")
    return Task(
        images=torch.from_numpy(transform.apply(images.pixels)),
        labels=torch.from_numpy(images.labels),
        n_classes=10,
        images_per_class=images_per_class,
        trajectories=trajectories,
        net="convnet2",
        width=4,
        seed=seed,
    )


def check_resumes(start: Callable[[], Learner], n_before: int) -> Learned:
    """A learner that goes on from the state of another after `n_before` steps ends as one that never stopped.

    Bit for bit; returns what it learned.
    """
    whole, first, second = start(), start(), start()
    for i in range(whole.n_iterations):
        whole.step(i)
    for i in range(n_before):
        first.step(i)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for i in range(n_before, whole.n_iterations):
        second.step(i)
    found, expected = second.result(), whole.result()
    assert torch.equal(found.pixels, expected.pixels)
    assert found.step_size == expected.step_size
    assert (found.soft_labels is None) == (expected.soft_labels is None)
    if found.soft_labels is not None and expected.soft_labels is not None:
        assert torch.equal(found.soft_labels, expected.soft_labels)
    return found
