"""The gradient penalty of smooth experts, differentiable in the parameters."""

import torch
from torch import Tensor

from condense.nets.flat import FlatNet


def slope_penalty(net: FlatNet, parameters: Tensor, images: Tensor) -> Tensor:
    """Mean over images and pixels of (|slope| - 1)^2, a scalar.

    The slope (C,) of a pixel is the derivative of the sum of its image's logits in its channels.

    Args:
        net: of the logits.
        parameters: (P,), to which gradients flow.
        images: (B, C, H, W).
    """
    seen = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net(parameters, seen).sum(), seen, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()
