"""A net by its name: `NAME[DEPTH][-NORM][:WIDTH]`, such as `convnet2`, `convnet3-batch`, `mlp:64`, `resnet18`.

Source: none; the names are those of the files here.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import find_methods, load_method

NORMS = ("instance", "batch", "layer", "group", "none")
DEFAULT_WIDTH = 128
_N_GROUPS = 4


@dataclass(frozen=True)
class NetName:
    """What a net's name says; `depth` 0 is the net's own, `width` None what the params say."""

    method: str
    depth: int
    norm: str
    width: int | None


def parse_net(name: str, key: str = "net") -> NetName:
    """Read a name.

    Args:
        name: as in params.
        key: the parameter, for the error.

    Raises:
        ParamsError: there is no such net or normalisation.
    """
    match = re.fullmatch(r"([a-z_]+(?:\d+)?)(?:-([a-z]+))?(?::(\d+))?", name)
    if not match:
        raise ParamsError(f"{key}: expected NAME[DEPTH][-NORM][:WIDTH], such as convnet3-batch:64 (got {name!r})")
    method, norm, width = match.groups()
    methods, depth = find_methods("condense.nets"), 0
    if method not in methods:
        numbered = re.fullmatch(r"([a-z_]+?)(\d+)", method)
        if numbered and numbered[1] in methods:
            method, depth = numbered[1], int(numbered[2])
    if method not in methods:
        raise ParamsError(f"{key}: no net {method!r}; there are {', '.join(methods)}")
    if norm is not None and norm not in NORMS:
        raise ParamsError(f"{key}: no normalisation {norm!r}; there are {', '.join(NORMS)}")
    return NetName(method, depth, norm or "instance", int(width) if width else None)


def open_net(
    name: str, shape: tuple[int, int, int], n_classes: int, *, width: int = DEFAULT_WIDTH, seed: int
) -> nn.Module:
    """A net with the initial weights of `seed`, on the CPU; torch's global generator is left as it was.

    Args:
        name: see the module.
        shape: channels, height and width of an image.
        n_classes: number of logits.
        width: where the name has none.
        seed: of the weights.

    Raises:
        ParamsError: there is no such net, or it cannot be built for these images.
    """
    net = parse_net(name)
    build: Any = getattr(load_method("condense.nets", net.method, key="net"), net.method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(shape, n_classes, net.width or width, net.depth, net.norm)


def normalisation(name: str, channels: int) -> nn.Module:
    """A layer over (B, channels, H, W): `instance` is one group a channel, `layer` one group of all."""
    match name:
        case "instance":
            return nn.GroupNorm(channels, channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "group":
            return nn.GroupNorm(_N_GROUPS, channels)
        case "batch":
            return nn.BatchNorm2d(channels)
        case _:
            return nn.Identity()
