"""ResNet-18 in the form for small images: a 3 x 3 first layer without pooling, four stages of two basic blocks.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. 2015. arXiv:1512.03385, section 3.3 and, for small
images, section 4.2; widths 1, 2, 4 and 8 times `width` (64 in the paper), mean pooling at the end.
"""

from collections import OrderedDict

from torch import Tensor, nn

from condense.nets.opening import normalisation
from datagen.contracts.errors import ParamsError

N_BLOCKS = 2


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is one of 1 x 1 where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int, norm: str) -> None:
        """`stride` is of the first convolution."""
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), normalisation(norm, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), normalisation(norm, width),
        )  # fmt: skip
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(channels, width, 1, stride, bias=False), normalisation(norm, width)
        )  # fmt: skip
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, width, H / stride, W / stride)."""
        return self.relu(self.residual(x) + self.shortcut(x))


def resnet18(shape: tuple[int, int, int], n_classes: int, width: int, depth: int, norm: str) -> nn.Module:
    """See `condense.nets.Net`; the depth is 18."""
    if depth:
        raise ParamsError(f"net: resnet18 has no other depth (got {depth})")
    if norm == "instance" and min(shape[1:]) <= 8:
        raise ParamsError(
            f"net: resnet18 sees images of {shape[1]} x {shape[2]} as one pixel a channel in its last blocks, of which "
            "instance normalisation leaves nothing; take resnet18-layer"
        )
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], width, 3, padding=1, bias=False),
        normalisation(norm, width),
        nn.ReLU(),
    ]
    channels = width
    for stage in range(4):
        for block in range(N_BLOCKS):
            layers.append(Block(channels, width * 2**stage, 2 if stage and not block else 1, norm))
            channels = width * 2**stage
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, head=nn.Linear(channels, n_classes)))
