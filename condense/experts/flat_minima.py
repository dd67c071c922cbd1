"""Experts that end in flat minima: each step follows the gradient at a point uphill of the parameters.

Du et al. Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation. 2022. arXiv:2211.11004, section
3.3 (FTD), which trains experts by GSAM: Zhuang et al. Surrogate Gap Minimization Improves Sharpness-Aware Training.
2022. arXiv:2203.08065, algorithm 1, in the adaptive form of Kwon et al. 2021, arXiv:2102.11600, as in FTD's code:

    uphill = rho theta^2 g / |theta g|,   g' = gradient at theta + uphill,
    step along g' - alpha (the part of g that is orthogonal to g').

The radius rho and the learning rate are constant. alpha is 0.3 for CIFAR-10 at 1 and 10 images per class there, else 1.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from condense.experts._settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from condense.nets.flat import FlatNet


class Config(Settings):
    """See the module; rho 0 with alpha 0 is `sgd`, at twice its cost."""

    method: Literal["flat_minima"] = "flat_minima"
    rho: float = Field(0.01, ge=0)
    alpha: float = Field(0.3, ge=0)


def flat_minima(config: Config, net: "FlatNet", images: "Tensor", labels: "Tensor", *, seed: int) -> "Iterator[Tensor]":
    """See `condense.experts.ExpertMethod`."""
    from condense.experts._descent import Batch, cross_entropy, descend, gradient_of
    from condense.experts._sharpness import uphill, without_orthogonal

    plain = gradient_of(lambda parameters, batch: cross_entropy(net, parameters, batch))

    def gradient(parameters: "Tensor", batch: Batch) -> "Tensor":
        here = plain(parameters, batch)
        there = plain(parameters + uphill(parameters, here, config.rho), batch)
        return without_orthogonal(there, here, config.alpha)

    return descend(net, images, labels, gradient, config, seed=seed)
