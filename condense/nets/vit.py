"""A small vision transformer: patches of an eighth of the image's side, pre-normalised blocks, mean over the tokens.

Dosovitskiy et al. An Image is Worth 16x16 Words. 2020. arXiv:2010.11929, section 3.1; mean pooling in place of the
class token and a learned position of each patch, as Beyer, Zhai, Kolesnikov find best for small ViTs
(arXiv:2205.01580). Four blocks, heads of 16 units, an MLP twice as wide.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from datagen.contracts.errors import ParamsError

DEPTH = 4
HEAD_WIDTH = 16


class Patches(nn.Module):
    """Tokens of an image: a linear map of each patch, and where it is."""

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        """`shape` is channels, height and width of an image."""
        super().__init__()
        side = max(1, min(shape[1:]) // 8)
        self.embed = nn.Conv2d(shape[0], width, side, side)
        self.positions = nn.Parameter(torch.randn(1, (shape[1] // side) * (shape[2] // side), width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, tokens, width)."""
        return self.embed(x).flatten(2).transpose(1, 2) + self.positions


class Blocks(nn.TransformerEncoder):
    """Attention by plain products: what is fused has no second derivative, which matching needs."""

    def forward(self, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(B, tokens, width) to the same."""
        with sdpa_kernel(SDPBackend.MATH):
            return super().forward(src, *args, **kwargs)


class Mean(nn.Module):
    """Mean over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) to (B, width)."""
        return x.mean(dim=1)


def vit(shape: tuple[int, int, int], n_classes: int, width: int, depth: int, norm: str) -> nn.Module:
    """See `condense.nets.Net`; `norm` is layer normalisation, whatever is said."""
    if width % HEAD_WIDTH:
        raise ParamsError(f"net: vit needs a width that is a multiple of {HEAD_WIDTH} (got {width})")
    block = nn.TransformerEncoderLayer(
        width, width // HEAD_WIDTH, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    blocks = Blocks(block, depth or DEPTH, nn.LayerNorm(width), enable_nested_tensor=False)
    features = nn.Sequential(Patches(shape, width), blocks, Mean())
    return nn.Sequential(OrderedDict(features=features, head=nn.Linear(width, n_classes)))
