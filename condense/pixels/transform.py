"""From pixels to what a net reads, and back for viewing. The transform is fitted once and travels with what it made.

standard   each channel has mean 0 and standard deviation 1 over the images that it was fitted on
zca        ZCA whitening: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, appendix A; as the
           trajectory matching papers (arXiv:2203.11932 and after) use it: kornia's ZCAWhitening, eps 0.1

Whitening: x -> (x - mean) U (S + eps)^(-1/2) U', where U S U' is the unbiased covariance of pixels in [0, 1], flattened
channel by channel. Departures: covariance and decomposition in float64, where kornia's are float32; the inverse is
solved for when images are viewed instead of stored, so a transform is half as large.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageSet, Pixels

Kind = Literal["standard", "zca"]
Floats = NDArray[np.float32]

EPSILON = 0.1  # of arXiv:2203.11932's code
_WHITE = 255.0
_ROWS = 1024  # images that are float64 at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """What was fitted.

    Attributes:
        kind: see the module.
        shape: channels, height and width of the images that it fits.
        mean: of pixels in [0, 1]; (C,) where kind is standard, (D,) with D = C H W where it is zca.
        scale: the standard deviations (C,), or the whitening matrix (D, D), which is symmetric.
    """

    kind: Kind
    shape: tuple[int, int, int]
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, arrays: Mapping[str, Floats], shape: tuple[int, int, int]) -> "Transform":
        """From what `arrays` gave.

        Raises:
            DataError: they are no transform of such images.
        """
        channels, n_values = shape[0], int(np.prod(shape))
        found = {name: array.shape for name, array in arrays.items()}
        if found == {"mean": (channels,), "std": (channels,)}:
            return cls(kind="standard", shape=shape, mean=arrays["mean"], scale=arrays["std"])
        if found == {"mean": (n_values,), "matrix": (n_values, n_values)}:
            return cls(kind="zca", shape=shape, mean=arrays["mean"], scale=arrays["matrix"])
        raise DataError(
            f"transform: {found} fits no images of {_named(shape)}; give the file that was written for them"
        )

    def arrays(self) -> dict[str, Floats]:
        """What must be kept of it: `mean`, and `std` or `matrix`."""
        return {"mean": self.mean, ("std" if self.kind == "standard" else "matrix"): self.scale}

    def apply(self, pixels: Pixels) -> Floats:
        """(N, C, H, W) of (N, H, W, C).

        Raises:
            DataError: the images are of another shape.
        """
        _, height, width, channels = pixels.shape
        if (channels, height, width) != self.shape:
            raise DataError(
                f"images are {_named((channels, height, width))}, the transform was fitted on {_named(self.shape)}; "
                "use images of that shape, or make experts and condensed sets from these"
            )
        values = _in_unit(pixels)
        if self.kind == "standard":
            values -= self._by_channel(self.mean)
            values /= self._by_channel(self.scale)
            return values
        flat = values.reshape(len(pixels), -1) - self.mean
        return (flat @ self.scale).reshape(values.shape).astype(np.float32, copy=False)

    def invert(self, images: Floats) -> Pixels:
        """(N, H, W, C) of (N, C, H, W), for viewing: what no pixel can show is cut to 0 and 255."""
        if self.kind == "standard":
            values = images * self._by_channel(self.scale) + self._by_channel(self.mean)
        else:
            flat = images.reshape(len(images), -1).astype(np.float64)
            values = (np.linalg.solve(self.scale.astype(np.float64), flat.T).T + self.mean).reshape(images.shape)
        shown = np.clip(np.rint(values * _WHITE), 0, _WHITE).astype(np.uint8)
        return np.ascontiguousarray(shown.transpose(0, 2, 3, 1))

    def _by_channel(self, values: Floats) -> Floats:
        return values[:, None, None]


def fit_transform(images: ImageSet, kind: Kind) -> Transform:
    """The transform of these images.

    Raises:
        DataError: they don't differ, so there is nothing to scale by.
    """
    if kind == "standard":
        mean, scale = _channel_figures(images.pixels)
        if not scale.all():
            channel = int(np.flatnonzero(scale == 0)[0])
            raise DataError(
                f"images: channel {channel} has one value in all pixels of all images; nothing can be learned"
            )
    else:
        if len(images) < 2:
            raise DataError(
                f"images: whitening needs 2 or more, there are {len(images)}; add some, or transform=standard"
            )
        mean, scale = _whitening(images.pixels)
    return Transform(kind=kind, shape=images.shape, mean=mean.astype(np.float32), scale=scale.astype(np.float32))


def _channel_figures(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, from counts of grey levels: exact, whatever the number of images."""
    levels = np.arange(256) / _WHITE
    counts = np.stack([np.bincount(one.ravel(), minlength=256) for one in np.moveaxis(pixels, -1, 0)])
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    return mean, np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))


def _whitening(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and matrix (D, D)."""
    n_images = len(pixels)
    channels_first = pixels.transpose(0, 3, 1, 2).reshape(n_images, -1)
    mean = channels_first.mean(0, dtype=np.float64) / _WHITE
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, n_images, _ROWS):
        centred = channels_first[start : start + _ROWS] / _WHITE - mean
        covariance += centred.T @ centred
    variances, axes = np.linalg.eigh(covariance / (n_images - 1))
    # rounding may leave a variance of 0 just below it
    return mean, (axes / np.sqrt(np.maximum(variances, 0) + EPSILON)) @ axes.T


def _in_unit(pixels: Pixels) -> Floats:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(_WHITE)


def _named(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
