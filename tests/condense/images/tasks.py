"""The task that the tests of trajectory matching share, and settings under which it takes a moment."""

from pathlib import Path
from typing import Any

import torch

from condense.images import Task
from condense.pixels.transform import fit_transform
from condense.trajectories import Trajectories
from datagen.contracts.images import read_images

SMALL: dict[str, Any] = {
    "iterations": 30, "student_steps": 4, "expert_epochs": 1, "max_start_epoch": 4, "optimizer": "adam",
    "image_learning_rate": 0.1, "step_size": 0.05, "step_size_learning_rate": 0.02, "augmentation": "none",
}  # fmt: skip


def task(digits: Path, trajectories: Trajectories | None, images_per_class: int = 1) -> Task:
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
        seed=0,
    )
