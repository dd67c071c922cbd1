"""Images of 8 x 8 pixels that a net learns in a few steps: each class has a bright square of its own, under noise."""

from pathlib import Path

import numpy as np

from datagen.contracts.images import ImageSet

CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4))


def tiny_images(
    n_per_class: int, *, n_classes: int = 3, channels: int = 1, signal: int = 100, seed: int = 0
) -> ImageSet:
    """Class by class in turns; the square is brighter by `signal`, in noise of 0 to 120; 15 takes many images."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.arange(n_classes), n_per_class)
    pixels = generator.integers(0, 121, size=(len(labels), 8, 8, channels))
    for image, label in zip(pixels, labels, strict=True):
        row, column = CORNERS[label]
        image[row : row + 4, column : column + 4] += signal
    return ImageSet(
        pixels=pixels.astype(np.uint8),
        labels=labels.astype(np.int64),
        ids=[f"tiny-{i}" for i in range(len(labels))],
        classes=[f"corner {i}" for i in range(n_classes)],
    )


def write_npz(path: Path, images: ImageSet) -> Path:
    """As a user's file."""
    pixels = images.pixels[..., 0] if images.shape[0] == 1 else images.pixels
    np.savez(path, image=pixels, label=images.labels, class_names=np.array(images.classes))
    return path
