"""Oracle: the parameter count of the usual CIFAR ResNet-18, and strides by hand."""

import pytest
import torch

from condense.nets.opening import open_net
from datagen.contracts.errors import ParamsError


def test_parameters_of_the_usual_network():
    """11,173,962 for 3 x 32 x 32 and 10 classes at width 64: the CIFAR form that is in use everywhere."""
    net = open_net("resnet18-batch", (3, 32, 32), 10, width=64, seed=0)
    assert sum(one.numel() for one in net.parameters()) == 11_173_962


def test_three_stages_halve_the_image():
    net = open_net("resnet18", (3, 32, 32), 10, width=4, seed=0)
    layers = net.get_submodule("features")
    assert isinstance(layers, torch.nn.Sequential)
    assert layers[:-2](torch.zeros(1, 3, 32, 32)).shape == (1, 32, 4, 4)


def test_no_other_depth():
    with pytest.raises(ParamsError, match="net: no net 'resnet34'"):
        open_net("resnet34", (3, 32, 32), 10, width=4, seed=0)


def test_one_pixel_a_channel_is_no_matter_for_instance_normalisation():
    """8 x 8 is halved three times; layer normalisation tells two images apart there."""
    with pytest.raises(
        ParamsError, match=r"resnet18 sees images of 8 x 8 as one pixel a channel .* take resnet18-layer"
    ):
        open_net("resnet18", (1, 8, 8), 10, width=4, seed=0)
    net = open_net("resnet18-layer", (1, 8, 8), 10, width=4, seed=0)
    logits = net(torch.randn(2, 1, 8, 8))
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
