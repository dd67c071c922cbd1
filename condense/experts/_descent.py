"""The loop of all experts: batches, steps, and the parameters after each epoch.

Update: stochastic gradient descent with momentum as in Sutskever et al. 2013, in torch.optim.SGD's form.

Axes: B images of a batch, P parameters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from condense.experts._settings import Settings
from condense.nets.flat import FlatNet
from condense.pixels.augmentation import augment
from datagen.contracts.errors import ParamsError
from datagen.contracts.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (B, C, H, W) as they are and augmented, their labels (B,), and the epoch, from 0."""

    plain: Tensor
    augmented: Tensor
    labels: Tensor
    epoch: int


Loss = Callable[[Tensor, Batch], Tensor]
Gradient = Callable[[Tensor, Batch], Tensor]


def descend(
    net: FlatNet,
    images: Tensor,
    labels: Tensor,
    gradient: Gradient,
    settings: Settings,
    *,
    seed: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rate_drop: tuple[int, float] | None = None,
) -> Iterator[Tensor]:
    """The parameters at the start and after every epoch, each a copy.

    Args:
        net: holds the parameters at the start.
        images: (N, C, H, W).
        labels: (N,).
        gradient: of the loss, (P,), at parameters (P,) and a batch.
        settings: of the loop.
        seed: of order and augmentation, with epoch and step.
        momentum: of the step, in [0, 1); 0 is none.
        weight_decay: times the parameters, added to the gradient.
        rate_drop: (epoch, factor): after that epoch, from 0, the rate is multiplied once, and momentum starts anew.

    Raises:
        ParamsError: a parameter became NaN or infinite.
    """
    parameters = net.initial().to(images.device)
    velocity = torch.zeros_like(parameters)
    rate = settings.learning_rate
    yield parameters.clone()
    for epoch in range(settings.epochs):
        for batch in _batches(images, labels, settings, seed, epoch):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                slope = gradient(parameters, batch)
            if weight_decay:
                slope = slope + weight_decay * parameters
            if momentum:
                velocity = slope = momentum * velocity + slope
            parameters = parameters - rate * slope
        if not torch.isfinite(parameters).all():
            raise ParamsError(
                f"learning_rate: the expert's parameters became infinite in epoch {epoch + 1} "
                f"(got {settings.learning_rate}); lower it"
            )
        yield parameters.clone()
        if rate_drop and epoch == rate_drop[0]:
            rate *= rate_drop[1]
            velocity = torch.zeros_like(parameters)


def gradient_of(loss: Loss) -> Gradient:
    """The gradient (P,) of a scalar loss by autograd."""

    def gradient(parameters: Tensor, batch: Batch) -> Tensor:
        leaf = parameters.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf, batch), leaf)[0]

    return gradient


def cross_entropy(net: FlatNet, parameters: Tensor, batch: Batch) -> Tensor:
    """Scalar mean over the augmented batch, in nats."""
    return F.cross_entropy(net(parameters, batch.augmented), batch.labels)


def count_right(net: FlatNet, parameters: Tensor, images: Tensor, labels: Tensor, batch_size: int) -> int:
    """Number of images, not augmented, whose class has the highest logit."""
    with torch.inference_mode():
        return sum(
            int((net(parameters, some).argmax(1) == theirs).sum())
            for some, theirs in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        )


def _batches(images: Tensor, labels: Tensor, settings: Settings, seed: int, epoch: int) -> Iterator[Batch]:
    generator = Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    for step, chosen in enumerate(order.split(settings.batch_size)):
        plain = images[chosen]
        augmented = augment(plain, settings.augmentation, derive_seed(seed, "augment", epoch, step))
        yield Batch(plain, augmented, labels[chosen], epoch)
