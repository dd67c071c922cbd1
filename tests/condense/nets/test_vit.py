"""Oracles: patches by hand; attention without positions knows no order."""

import pytest
import torch

from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from condense.nets.vit import Patches
from datagen.contracts.errors import ParamsError


def test_a_patch_is_an_eighth_of_the_side():
    for size, tokens in ((8, 64), (32, 64), (28, 81)):
        assert Patches((1, size, size), 16)(torch.zeros(2, 1, size, size)).shape == (2, tokens, 16)


def test_only_positions_tell_patches_apart():
    """With positions of zero, the logits don't change when patches change places."""
    net = open_net("vit1", (1, 8, 8), 3, width=16, seed=0).eval()
    image = torch.randn(1, 1, 8, 8)
    moved = image.flatten(2)[..., torch.randperm(64)].view(1, 1, 8, 8)
    assert not torch.allclose(net(image), net(moved), atol=1e-4)
    patches = net.get_submodule("features.0")
    assert isinstance(patches, Patches)
    patches.positions.data.zero_()
    assert torch.allclose(net(image), net(moved), atol=1e-5)


def test_a_width_that_no_head_divides_is_refused():
    with pytest.raises(ParamsError, match=r"vit needs a width that is a multiple of 16 .got 20."):
        open_net("vit", (1, 8, 8), 10, width=20, seed=0)


def test_it_has_second_derivatives():
    """Which fused attention has not; oracle: finite differences of the gradient in float64."""
    net = FlatNet(open_net("vit1", (1, 8, 8), 3, width=16, seed=0).double())
    theta, images, labels = net.initial(), torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    direction = torch.randn_like(theta)

    def gradient(at: torch.Tensor, graph: bool = False) -> torch.Tensor:
        leaf = at.detach().requires_grad_()
        (found,) = torch.autograd.grad(
            torch.nn.functional.cross_entropy(net(leaf, images), labels), leaf, create_graph=graph
        )
        return torch.autograd.grad(found @ direction, leaf)[0] if graph else found

    step = 1e-6
    expected = (gradient(theta + step * direction) - gradient(theta - step * direction)) / (2 * step)
    assert torch.allclose(gradient(theta, graph=True), expected, atol=1e-6)
