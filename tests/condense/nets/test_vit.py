"""Oracles: patches by hand; attention without positions knows no order."""

import pytest
import torch

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
