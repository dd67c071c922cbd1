"""How students of images are trained, whoever compares them: the steps, the loss of a batch, what a student gets right.

As trajectory matching evaluates (Cazenavette et al. 2022, arXiv:2203.11932, in its code): SGD with momentum 0.9 and
weight decay 5e-4, a tenth of the rate in the second half, batches of 256, and DSA (arXiv:2102.08259) on every batch.
Departures: `n_steps` counts optimiser steps, so that sets of any size train as long; the last step is judged, and
nothing is chosen by it.

Axes: N images, C channels, H rows, W columns, K classes.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from condense.pixels.strategy import Strategy
from datagen.backends.transformers_models import device_type
from datagen.contracts.seeding import derive_seed
from trainers import loop
from trainers.steps import Position, RowSteps
from trainers.steps import loop_config as steps_config

if TYPE_CHECKING:  # a stage reads Steps without torch
    import torch
    from numpy.typing import NDArray

    from condense.condensed import CondensedSet
    from condense.pixels.transform import Transform
    from datagen.contracts.images import ImageSet
    from trainers.objectives import SumCount

_BATCH = 1024  # images that are judged at once


class Steps(RowSteps):
    """How students of images are trained: by sgd as in the papers, for which step sizes are learned.

    Attributes:
        n_steps: of the optimiser, whatever the number of images.
        augmentation: of every batch, see `condense.pixels.augmentation`; of several processes each draws its own.
        schedule: as the loop's.
    """

    n_steps: int = Field(1000, ge=1)
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"
    schedule: loop.Schedule = "step"


def loop_config(steps: Steps, n_images: int, learning_rate: float, seed: int) -> loop.Config:
    """See `trainers.steps.loop_config`; the number of steps is that of `steps`."""
    return steps_config(steps, n_images, learning_rate, seed, n_steps=steps.n_steps)


def fresh_net(name: str, shape: tuple[int, int, int], n_classes: int, width: int, seed: int) -> "torch.nn.Module":
    """A student of `seed` before it learns: the same initial weights for every set."""
    from condense.nets.opening import open_net

    return open_net(name, shape, n_classes, width=width, seed=derive_seed(seed, "student"))


def on_device(images: "CondensedSet", *, hard: bool) -> "tuple[torch.Tensor, torch.Tensor]":
    """(N, C, H, W) images and their targets: (N,) labels, or (N, K) probabilities where there are soft labels."""
    import torch

    pixels = torch.from_numpy(images.pixels).to(device_type())
    if hard or images.soft_labels is None:
        return pixels, torch.from_numpy(images.labels).to(pixels.device)
    return pixels, torch.from_numpy(images.soft_labels).to(pixels.device).softmax(dim=1)


def loss_of(
    images: "torch.Tensor", targets: "torch.Tensor", augmentation: Strategy, teacher: "torch.nn.Module | None" = None
) -> "Callable[[torch.nn.Module, Sequence[Position], torch.device], SumCount]":
    """Cross-entropy of some images, augmented, for the loop.

    Args:
        images: (N, C, H, W).
        targets: (N,) labels, or (N, K) probabilities.
        augmentation: its draws are those of the step's noise, so equal steps of equal seeds see equal images.
        teacher: whose probabilities for the augmented images take the place of `targets`; not trained.
    """
    import torch
    from torch.nn import functional

    from condense.pixels.augmentation import augment
    from trainers.objectives import SumCount

    def loss(network: torch.nn.Module, rows: Sequence[Position], device: torch.device) -> "SumCount":
        at = torch.tensor([row.at for row in rows], device=images.device)
        seen = augment(images[at], augmentation, torch.initial_seed())
        if teacher is None:
            wanted = targets[at]
        else:
            with torch.no_grad():
                wanted = teacher(seen).softmax(dim=1)
        return SumCount(
            functional.cross_entropy(network(seen).float(), wanted, reduction="sum"),
            torch.tensor(len(rows), device=device),
        )

    return loss


def accuracy(net: "torch.nn.Module", images: "torch.Tensor", labels: "torch.Tensor") -> float:
    """Share of the images whose greatest logit is their label's."""
    return int((logits_of(net, images).argmax(dim=1) == labels).sum()) / len(labels)


def logits_of(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    """(N, K) of images as they are, without augmentation."""
    import torch

    net.eval()
    with torch.no_grad():
        return torch.cat([net(some) for some in images.split(_BATCH)])


def real_set(images: "ImageSet", transform: "Transform", soft_labels: "NDArray[Any] | None" = None) -> "CondensedSet":
    """Real images as a set that students learn from."""
    from condense.condensed import CondensedSet

    return CondensedSet(
        pixels=transform.apply(images.pixels), labels=images.labels, soft_labels=soft_labels, transform=transform,
        classes=images.classes, raw=images.pixels,
    )  # fmt: skip
