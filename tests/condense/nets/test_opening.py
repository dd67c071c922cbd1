"""Oracles: published parameter counts, counts by hand, and definitions written out in numpy."""

import numpy as np
import pytest
import torch

from condense.nets.flat import FlatNet
from condense.nets.opening import open_net, parse_net
from datagen.contracts.errors import ParamsError


def n_parameters(name: str, shape: tuple[int, int, int], width: int) -> int:
    return sum(one.numel() for one in open_net(name, shape, 10, width=width, seed=0).parameters())


def test_names():
    assert parse_net("convnet2-batch:48").__dict__ == {"method": "convnet", "depth": 2, "norm": "batch", "width": 48}
    assert parse_net("resnet18").__dict__ == {"method": "resnet18", "depth": 0, "norm": "instance", "width": None}
    assert n_parameters("mlp:64", (1, 8, 8), 16) == n_parameters("mlp", (1, 8, 8), 64)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("convnett", "net: no net 'convnett'; there are convnet, mlp, resnet18, vit"),
        ("convnet3-bn", "net: no normalisation 'bn'; there are instance, batch, layer, group, none"),
        ("conv net", "net: expected NAME[DEPTH][-NORM][:WIDTH], such as convnet3-batch:64 (got 'conv net')"),
    ],
)
def test_a_bad_name_says_what_there_is(name: str, says: str):
    with pytest.raises(ParamsError) as raised:
        parse_net(name)
    assert str(raised.value) == says


@pytest.mark.parametrize(
    "name", ["convnet2", "convnet2-batch", "convnet2-group", "mlp", "mlp-layer", "resnet18-layer", "vit"]
)
def test_every_net_gives_logits_and_leaves_the_global_generator_alone(name: str):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    net = open_net(name, (1, 8, 8), 7, width=16, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    again = open_net(name, (1, 8, 8), 7, width=16, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_flat_is_the_module():
    """Oracle: the module itself, its features and its head."""
    module = open_net("convnet2", (3, 8, 8), 5, width=8, seed=3)
    net, images = FlatNet(module), torch.randn(4, 3, 8, 8)
    assert net.n_parameters == sum(one.numel() for one in module.parameters())
    assert torch.equal(net(net.initial(), images), module(images))
    features = net.features(net.initial(), images)
    head = module.get_submodule("head")
    assert torch.allclose(head(features), module(images), atol=1e-6)


def test_flat_binds_a_parameter_wherever_it_is_used():
    """Oracle: torch's own functional call, of a net that uses a layer twice."""
    layer = torch.nn.Linear(4, 4)
    net, images = FlatNet(twice(layer)), torch.randn(3, 4)
    theta = net.initial() + 1
    assert net.n_parameters == 20
    assert torch.equal(net(theta, images), torch.func.functional_call(twice(layer), net.parts(theta), (images,)))


def twice(layer: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(layer, torch.nn.Tanh(), layer)


def test_flat_refuses_batch_statistics():
    with pytest.raises(ParamsError, match=r"has state that is no parameter .*running_mean.*such as instance"):
        FlatNet(open_net("convnet2-batch", (1, 8, 8), 10, width=8, seed=0))


def test_instance_normalisation_is_by_image_and_channel():
    """Oracle: mean and variance of each image's channel, in numpy."""
    layer = open_net("convnet2", (1, 8, 8), 10, width=4, seed=0).get_submodule("features.1")
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 5, 5))
    expected = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    assert np.allclose(layer(torch.from_numpy(x).float()).detach().numpy(), expected, atol=1e-5)
