"""ConvNet: blocks of 3 x 3 convolution, normalisation, ReLU and 2 x 2 average pooling, then one linear layer.

Gidaris, Komodakis. Dynamic Few-Shot Visual Learning without Forgetting. 2018. arXiv:1804.09458; in the form in which
Zhao, Mopuri, Bilen (arXiv:2006.05929) and all trajectory matching papers condense with it: instance normalisation with
learned scale and shift, so that all state is in the parameters. Depth 3 and width 128 is theirs for 32 x 32 images.
A grey image of 28 x 28 is padded by 3 in the first layer, to 32 x 32; the published code does so with any grey image.
"""

from collections import OrderedDict

from torch import nn

from condense.nets.opening import normalisation
from datagen.contracts.errors import ParamsError

DEPTH = 3


def convnet(shape: tuple[int, int, int], n_classes: int, width: int, depth: int, norm: str) -> nn.Module:
    """See `condense.nets.Net`; each block halves height and width."""
    depth = depth or DEPTH
    channels, *size = shape
    layers: list[nn.Module] = []
    for block in range(depth):
        padding = 3 if block == 0 and shape == (1, 28, 28) else 1
        size = [(pixels + 2 * padding - 2) // 2 for pixels in size]
        if min(size) < 1:
            raise ParamsError(
                f"net: convnet{depth} pools {depth} times, images of {shape[1]} x {shape[2]} are too small"
            )
        layers += [
            nn.Conv2d(channels, width, 3, padding=padding), normalisation(norm, width), nn.ReLU(), nn.AvgPool2d(2)
        ]  # fmt: skip
        channels = width
    features = nn.Sequential(*layers, nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, head=nn.Linear(width * size[0] * size[1], n_classes)))
