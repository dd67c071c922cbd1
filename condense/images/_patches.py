"""Patches of real images: cut out, and put together as one image again.

Sun et al. On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm. 2023.
arXiv:2312.03526, section 4.

Axes: B patches, C channels, H rows, W columns of an image.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MIN_AREA_SHARE = 0.08  # of a crop in its image, as torchvision's RandomResizedCrop, which the authors use


def random_crops(images: Tensor, factor: int, generator: Generator) -> Tensor:
    """(B, C, H // factor, W // factor): of each image one crop of its shape, resized.

    Args:
        images: (B, C, H, W).
        factor: how many patches lie side by side in an image.
        generator: on the CPU. A crop takes a share of the area in [0.08, 1), uniform, and lies anywhere.
    """
    height, width = images.shape[2:]
    crops: list[Tensor] = []
    for image, (area, down, right) in zip(
        images, torch.rand(len(images), 3, generator=generator).tolist(), strict=True
    ):
        side = math.sqrt(MIN_AREA_SHARE + (1 - MIN_AREA_SHARE) * area)
        rows, columns = max(1, round(height * side)), max(1, round(width * side))
        top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
        crop = image[None, :, top : top + rows, left : left + columns]
        crops.append(resize(crop, height // factor, width // factor))
    return torch.cat(crops)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, averaging where it shrinks; the images themselves where the size is theirs."""
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)


def pad(patches: Tensor, height: int, width: int) -> Tensor:
    """(B, C, height, width): each patch in the middle of zeros, the mean of transformed images."""
    down, right = height - patches.shape[2], width - patches.shape[3]
    return F.pad(patches, (right // 2, right - right // 2, down // 2, down - down // 2))


def stitch(patches: Tensor, factor: int, height: int, width: int) -> Tensor:
    """Images of `factor` x `factor` patches each, row by row.

    Args:
        patches: (n factor^2, C, H // factor, W // factor); image i holds patches i, n + i, 2 n + i and so on.
        factor: 1 or more.
        height: of an image; where `factor` doesn't divide it, the first rows of patches are a pixel higher.
        width: likewise.
    """
    cells = patches.unflatten(0, (factor, factor, -1))
    rows = [
        torch.cat(
            [resize(cells[i, j], _part(height, factor, i), _part(width, factor, j)) for j in range(factor)], dim=3
        )
        for i in range(factor)
    ]
    return torch.cat(rows, dim=2)


def _part(size: int, factor: int, place: int) -> int:
    return size // factor + (place < size % factor)
