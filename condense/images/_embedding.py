"""What methods that match embeddings share: real batches, one augmentation for both sides, classes apart.

Zhao, Bilen. Dataset Condensation with Differentiable Siamese Augmentation. 2021. arXiv:2102.08259, section 3.2, for the
augmentation: its parameters are the same for every image of both batches, so that the batches stay comparable.

Axes: B images, D units of the embedding, M condensed images.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from condense.images import Task
from condense.pixels.augmentation import augment
from condense.pixels.strategy import Strategy
from datagen.contracts.seeding import derive_seed


def squared_mean_distance(real: Tensor, condensed: Tensor) -> Tensor:
    """|mean of (B, D) - mean of (B', D)|^2, a scalar: the maximum mean discrepancy with a linear kernel."""
    return (real.mean(0) - condensed.mean(0)).square().sum()


def augment_alike(images: Tensor, strategy: Strategy, seed: int) -> Tensor:
    """Every image as `augment` changes a batch of that one alone: one operation, one set of parameters for all."""

    def one(image: Tensor) -> Tensor:
        return augment(image[None], strategy, seed)[0]

    return torch.vmap(one, randomness="same")(images)


def draw_real(task: Task, label: int, batch_size: int, seed: int) -> Tensor:
    """(B, C, H, W): `batch_size` real images of a class, or all where it has fewer, none twice."""
    members = torch.nonzero(task.labels == label)[:, 0]
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(derive_seed(seed, "real", label)))
    return task.images[members[order[:batch_size].to(members.device)]]


def match_classes(pixels: Tensor, labels: Tensor, loss: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The sum of a loss over the classes with its gradient, one class's graph in memory at a time.

    Args:
        pixels: (M, C, H, W).
        labels: (M,).
        loss: of a class's label and its condensed images; a scalar that depends on no others.

    Returns:
        A scalar, and (M, C, H, W).
    """
    total, gradient = pixels.new_zeros(()), torch.zeros_like(pixels)
    for label in labels.unique().tolist():
        own = labels == label
        leaf = pixels[own].detach().requires_grad_()
        value = loss(label, leaf)
        gradient[own] = torch.autograd.grad(value, leaf)[0]
        total += value.detach()
    return total, gradient
