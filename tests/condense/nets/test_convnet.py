"""Oracle: the parameter count that the papers' code has, and shapes by hand."""

import pytest

from condense.nets.opening import open_net
from datagen.contracts.errors import ParamsError


def test_parameters_of_the_papers_networks():
    """320,010 for CIFAR-10 at depth 3 and width 128 (arXiv:2006.05929's code); 3,194 for digits at 2 and 16."""
    for name, shape, width, expected in (("convnet3", (3, 32, 32), 128, 320_010), ("convnet2", (1, 8, 8), 16, 3_194)):
        net = open_net(name, shape, 10, width=width, seed=0)
        assert sum(one.numel() for one in net.parameters()) == expected


def test_an_mnist_image_is_padded_to_32_as_the_papers_code_does():
    """28 + 2 x 3 - 2 = 32, halved to 16 and 8: 16 x 64 features; 8 x 8 is halved to 4 and 2: 16 x 4."""
    for size, features in ((28, 1024), (8, 64)):
        head = open_net("convnet2", (1, size, size), 10, width=16, seed=0).get_submodule("head")
        assert head.weight.shape == (10, features)


def test_an_image_too_small_is_refused():
    with pytest.raises(ParamsError, match="convnet4 pools 4 times, images of 8 x 8 are too small"):
        open_net("convnet4", (3, 8, 8), 10, width=4, seed=0)
