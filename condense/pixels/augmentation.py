"""DSA: differentiable augmentation, so that gradients reach the image that was augmented.

Zhao, Bilen. Dataset Condensation with Differentiable Siamese Augmentation. 2021. arXiv:2102.08259; operations and
ranges as in its code, used as in trajectory matching's (arXiv:2203.11932): one operation is drawn for a batch, its
parameters for each image. Pixels from beyond an image's edge are 0, the mean of transformed images. Rotation is in
coordinates of [-1, 1], so an image that is not square is sheared a little, as in that code.

Axes: N images, C channels, H rows, W columns.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

FLIP_SHARE = 0.5
MAX_SCALE = 1.2
MAX_ROTATION = math.radians(15)
CROP_SHARE = 0.125  # of height and width, by which an image is shifted at most
CUTOUT_SHARE = 0.5  # of height and width
BRIGHTNESS = 1.0
SATURATION = 2.0
CONTRAST = 0.5


def augment(images: Tensor, strategy: str, seed: int) -> Tensor:
    """The images, changed by one of the strategy's operations.

    Args:
        images: (N, C, H, W), transformed, of any float type and on any device; gradients flow to them.
        strategy: a `condense.pixels.strategy.Strategy`, operations joined by underscores; `none` gives the images.
        seed: of all that is drawn: the same seed gives the same operation with the same parameters.
    """
    if strategy == "none":
        return images
    operations = strategy.split("_")
    generator = Generator().manual_seed(seed)
    drawn = int(torch.randint(len(operations), (), generator=generator))
    return _OPERATIONS[operations[drawn]](images, generator)


def _color(images: Tensor, generator: Generator) -> Tensor:
    """Brightness, then saturation, then contrast, each image by its own."""
    brightness, saturation, contrast = (_uniform(images, generator)[:, None, None, None] for _ in range(3))
    images = images + (brightness - 0.5) * BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (saturation * SATURATION) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + CONTRAST) + mean


def _crop(images: Tensor, generator: Generator) -> Tensor:
    """Shifted by whole pixels."""
    n_images, n_channels, height, width = images.shape
    down, right = (_shift(size, n_images, generator).to(images.device) for size in (height, width))
    most_down, most_right = _most(height), _most(width)
    padded = F.pad(images, (most_right, most_right, most_down, most_down))
    rows = torch.arange(height, device=images.device) + most_down + down[:, None]
    columns = torch.arange(width, device=images.device) + most_right + right[:, None]
    places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    places = places.reshape(n_images, 1, -1).expand(-1, n_channels, -1)
    return padded.flatten(2).gather(2, places).view_as(images)


def _cutout(images: Tensor, generator: Generator) -> Tensor:
    """A rectangle of half the height and width is 0; its middle is anywhere, so part of it may be outside."""
    rows, columns = (_cut(size, len(images), generator).to(images.device) for size in images.shape[2:])
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _flip(images: Tensor, generator: Generator) -> Tensor:
    """Left to right."""
    flipped = _uniform(images, generator) < FLIP_SHARE
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def _scale(images: Tensor, generator: Generator) -> Tensor:
    """Width and height each by a factor of their own."""
    least = 1 / MAX_SCALE
    x, y = (least + (MAX_SCALE - least) * _uniform(images, generator) for _ in range(2))
    zero = torch.zeros_like(x)
    return _affine(images, torch.stack([x, zero, zero, y], 1))


def _rotate(images: Tensor, generator: Generator) -> Tensor:
    angle = (2 * _uniform(images, generator) - 1) * MAX_ROTATION
    cos, sin = angle.cos(), angle.sin()
    return _affine(images, torch.stack([cos, -sin, sin, cos], 1))


_OPERATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate
}  # fmt: skip


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear samples at `matrix` (N, 4), row by row, times (x, y); -1 and 1 are the middles of the outer pixels."""
    theta = F.pad(matrix.view(-1, 2, 2), (0, 1))
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


def _uniform(images: Tensor, generator: Generator) -> Tensor:
    """(N,) in [0, 1): drawn in float32 on the CPU, so that type and device change no draw."""
    return torch.rand(len(images), generator=generator).to(images)


def _most(size: int) -> int:
    return int(size * CROP_SHARE + 0.5)


def _shift(size: int, n_images: int, generator: Generator) -> Tensor:
    return torch.randint(-_most(size), _most(size) + 1, (n_images,), generator=generator)


def _cut(size: int, n_images: int, generator: Generator) -> Tensor:
    """(N, size) bool: where the rectangle is, along one axis."""
    length = int(size * CUTOUT_SHARE + 0.5)
    middle = torch.randint(0, size + 1 - length % 2, (n_images, 1), generator=generator)
    from_start = torch.arange(size) - (middle - length // 2)
    return (from_start >= 0) & (from_start < length)
