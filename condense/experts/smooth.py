"""Smooth experts: the loss grows to its full size over the first epochs, and the slope in the images is held near 1.

Shen et al. AST: Effective Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories.
2023. arXiv:2310.10541. What the paper calls clipping is a factor of the loss in the published code, from `ramp_start`
to 1, and is here; so are its momentum, weight decay and single drop of the rate, after which momentum starts anew. Its
revisions differ in the ramp (5 to 11 epochs), the drop (0.6 or 0.7) and the penalty's weight.

The penalty is lambda mean (|d sum of logits / d pixel| - 1)^2 over the pixels of the batch before augmentation. The
norm runs over a pixel's channels, as in the code, where a norm over an image would be the usual one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from condense.experts._settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from condense.nets.flat import FlatNet


class Config(Settings):
    """See arXiv:2310.10541; defaults are those of its code.

    Attributes:
        momentum: of the steps; 0 is none.
        weight_decay: added to the gradient, times the parameters.
        rate_drop: factor of the learning rate once half the epochs and two more are done; 1 keeps it.
        ramp_start: factor of the loss in the first epoch; 1 is no ramp.
        ramp_epochs: after which the factor is 1.
        gradient_penalty: lambda; 0 leaves it out, and with it a second backward pass.
    """

    method: Literal["smooth"] = "smooth"
    learning_rate: float = Field(0.003, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-3, ge=0)
    rate_drop: float = Field(0.6, gt=0, le=1)
    ramp_start: float = Field(0.5, gt=0, le=1)
    ramp_epochs: int = Field(10, ge=1)
    gradient_penalty: float = Field(2.0, ge=0)


def smooth(config: Config, net: "FlatNet", images: "Tensor", labels: "Tensor", *, seed: int) -> "Iterator[Tensor]":
    """See `condense.experts.ExpertMethod`."""
    from condense.experts._descent import Batch, cross_entropy, descend, gradient_of
    from condense.experts._penalty import slope_penalty

    def loss(parameters: "Tensor", batch: Batch) -> "Tensor":
        value = ramp(batch.epoch, config.ramp_start, config.ramp_epochs) * cross_entropy(net, parameters, batch)
        if not config.gradient_penalty:
            return value
        return value + config.gradient_penalty * slope_penalty(net, parameters, batch.plain)

    return descend(
        net, images, labels, gradient_of(loss), config, seed=seed,
        momentum=config.momentum, weight_decay=config.weight_decay,
        rate_drop=(config.epochs // 2 + 1, config.rate_drop),
    )  # fmt: skip


def ramp(epoch: int, start: float, n_epochs: int) -> float:
    """Factor of the loss in an epoch, from 0: rises by equal steps from `start`, and is 1 from epoch `n_epochs` on."""
    return start + (1 - start) * min(epoch / n_epochs, 1)
