"""Experts by plain stochastic gradient descent: no momentum, no weight decay, one learning rate.

Cazenavette et al. Dataset Distillation by Matching Training Trajectories. 2022. arXiv:2203.11932, section 3.1; defaults
are those of its code, which trains 100 experts.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from condense.experts._settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from condense.nets.flat import FlatNet


class Config(Settings):
    """See `Settings`."""

    method: Literal["sgd"] = "sgd"


def sgd(config: Config, net: "FlatNet", images: "Tensor", labels: "Tensor", *, seed: int) -> "Iterator[Tensor]":
    """See `condense.experts.ExpertMethod`."""
    from condense.experts._descent import cross_entropy, descend, gradient_of

    gradient = gradient_of(lambda parameters, batch: cross_entropy(net, parameters, batch))
    return descend(net, images, labels, gradient, config, seed=seed)
