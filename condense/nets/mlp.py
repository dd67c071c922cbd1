"""Multilayer perceptron: fully connected layers with ReLU.

As in the transfer tables of Zhao, Mopuri, Bilen. Dataset Condensation with Gradient Matching. 2020. arXiv:2006.05929:
two hidden layers, 128 units wide. `norm` layer puts layer normalisation before each ReLU; instance normalisation, of
one value a channel, has no meaning here and stands for none.
"""

from collections import OrderedDict

from torch import nn

from datagen.contracts.errors import ParamsError

DEPTH = 2


def mlp(shape: tuple[int, int, int], n_classes: int, width: int, depth: int, norm: str) -> nn.Module:
    """See `condense.nets.Net`."""
    if norm not in ("instance", "none", "layer"):
        raise ParamsError(f"net: mlp has no normalisation {norm!r}; there are layer and none")
    units = shape[0] * shape[1] * shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth or DEPTH):
        layers += [nn.Linear(units, width), *([nn.LayerNorm(width)] if norm == "layer" else []), nn.ReLU()]
        units = width
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), head=nn.Linear(units, n_classes)))
