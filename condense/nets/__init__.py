"""The small networks that condensation is defined against; students reuse them. One a file, a function named like it.

convnet    blocks of convolution, normalisation, ReLU and pooling: what the papers condense with
mlp        fully connected layers
resnet18   residual blocks, in the form for small images
vit        a small vision transformer
"""

from typing import Protocol

from torch import nn


class Net(Protocol):
    """The function that a net's module is named after; `condense.nets.opening` reads names such as `convnet3-batch`."""

    def __call__(self, shape: tuple[int, int, int], n_classes: int, width: int, depth: int, norm: str) -> nn.Module:
        """A network from (B, *shape) float to (B, n_classes) logits, initialised from torch's global generator.

        It is a `torch.nn.Sequential` of `features`, to (B, D), and `head`, a linear layer.

        Args:
            shape: channels, height and width of an image.
            n_classes: number of logits.
            width: channels or units of a layer.
            depth: blocks; 0 for the net's own number.
            norm: of `NORMS` in `condense.nets.opening`.

        Raises:
            ParamsError: the net cannot be built so, such as more poolings than the image has pixels.
        """
        ...
