"""Experts: how a net is trained on all images, so that a condensed set can follow it; one method a file.

flat_minima   sharpness-aware steps, which end in flat minima (FTD)
sgd           plain stochastic gradient descent (MTT)
smooth        a loss that starts small, and a penalty on the gradient in the images (AST)
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from condense.nets.flat import FlatNet


class ExpertMethod(Protocol):
    """The function that a method module is named after; its Config is a `condense.experts._settings.Settings`."""

    def __call__(
        self, config: Any, net: "FlatNet", images: "Tensor", labels: "Tensor", *, seed: int
    ) -> Iterator["Tensor"]:
        """The parameters (P,) after initialisation and after every epoch, each a copy on the images' device.

        Args:
            config: the method's Config.
            net: with the weights that training starts from; they stay as they are.
            images: (N, C, H, W) float, as networks see them.
            labels: (N,) int64.
            seed: of the order of the images and their augmentation.

        Raises:
            ParamsError: the parameters became infinite; the message names the epoch.
        """
        ...
