"""Oracles: whitening's definition by numpy's inverse and covariance, no decomposition; means and deviations too."""

import numpy as np
import pytest
from numpy.typing import NDArray

from condense.pixels.transform import EPSILON, Transform, fit_transform
from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageSet


def image_set(n: int, *, size: int = 6, channels: int = 1, seed: int = 0) -> ImageSet:
    """Images whose pixels are correlated, as those of photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (n, size + 1, size, channels))
    pixels = ((noise[:, :-1] + noise[:, 1:]) // 2).astype(np.uint8)
    return ImageSet(pixels=pixels, labels=np.zeros(n, np.int64), ids=list(map(str, range(n))), classes=["a"])


def flat(images: ImageSet) -> NDArray[np.float64]:
    """(N, D) in [0, 1], channel by channel."""
    return images.pixels.transpose(0, 3, 1, 2).reshape(len(images), -1) / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_images_have_the_covariance_of_the_definition(channels: int):
    """S / (S + eps) along each axis: C (C + eps)^-1."""
    images = image_set(300, size=4, channels=channels)
    covariance = np.cov(flat(images), rowvar=False)
    whitened = fit_transform(images, "zca").apply(images.pixels)
    wanted = covariance @ np.linalg.inv(covariance + EPSILON * np.eye(len(covariance)))
    np.testing.assert_allclose(np.cov(whitened.reshape(300, -1), rowvar=False), wanted, atol=1e-5)


def test_the_whitening_matrix_is_the_symmetric_root_of_the_inverse_covariance():
    """W W = (C + eps)^-1 and W = W', which whitening by PCA or Cholesky is not."""
    images = image_set(300)
    matrix = fit_transform(images, "zca").scale
    wanted = np.linalg.inv(np.cov(flat(images), rowvar=False) + EPSILON * np.eye(36))
    np.testing.assert_allclose(matrix @ matrix, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)


def test_fewer_images_than_pixels_are_whitened():
    """The covariance is singular; eps alone keeps its inverse."""
    images = image_set(5)
    transform = fit_transform(images, "zca")
    assert np.isfinite(transform.scale).all()
    np.testing.assert_allclose(np.linalg.eigvalsh(transform.scale)[-1], EPSILON**-0.5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_standard_is_by_channel(channels: int):
    images = image_set(50, channels=channels)
    applied = fit_transform(images, "standard").apply(images.pixels)
    assert applied.dtype == np.float32 and applied.shape == (50, channels, 6, 6)
    unit = images.pixels / 255
    mean, std = unit.mean((0, 1, 2)), unit.std((0, 1, 2))
    last = channels - 1
    assert applied[7, last, 2, 4] == pytest.approx((unit[7, 2, 4, last] - mean[last]) / std[last], abs=1e-5)
    np.testing.assert_allclose(applied.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(applied.std((0, 2, 3)), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["standard", "zca"])
@pytest.mark.parametrize("channels", [1, 3])
def test_invert_gives_the_pixels(kind: str, channels: int):
    images, other = image_set(60, channels=channels), image_set(20, channels=channels, seed=1)
    transform = fit_transform(images, "zca" if kind == "zca" else "standard")
    for pixels in (images.pixels, other.pixels):
        assert (transform.invert(transform.apply(pixels)) == pixels).all()


def test_what_no_pixel_shows_is_cut():
    transform = fit_transform(image_set(10), "standard")
    assert (transform.invert(np.full((1, 1, 6, 6), 99, np.float32)) == 255).all()
    assert (transform.invert(np.full((1, 1, 6, 6), -99, np.float32)) == 0).all()


@pytest.mark.parametrize("kind", ["standard", "zca"])
def test_arrays_hold_all_of_it(kind: str):
    images = image_set(30, channels=3)
    transform = fit_transform(images, "zca" if kind == "zca" else "standard")
    again = Transform.of(transform.arrays(), images.shape)
    assert again.kind == kind
    assert (again.apply(images.pixels) == transform.apply(images.pixels)).all()
    n_values = 3 * 36
    assert sum(one.nbytes for one in transform.arrays().values()) == 4 * (
        (3 + 3) if kind == "standard" else (n_values + n_values**2)
    )


def test_images_of_another_shape_are_refused():
    transform = fit_transform(image_set(10), "standard")
    with pytest.raises(DataError, match=r"images are 1 x 5 x 5, the transform was fitted on 1 x 6 x 6; use images"):
        transform.apply(image_set(2, size=5).pixels)
    with pytest.raises(DataError, match="images are 3 x 6 x 6"):
        transform.apply(image_set(2, channels=3).pixels)


def test_arrays_of_another_shape_are_refused():
    arrays = fit_transform(image_set(10), "zca").arrays()
    with pytest.raises(DataError, match="fits no images of 1 x 5 x 5"):
        Transform.of(arrays, (1, 5, 5))
    with pytest.raises(DataError, match="fits no images"):
        Transform.of({"mean": arrays["mean"]}, (1, 6, 6))


def test_images_that_do_not_differ_are_refused():
    images = image_set(4, channels=3)
    images.pixels[..., 1] = 7
    with pytest.raises(DataError, match="channel 1 has one value"):
        fit_transform(images, "standard")
    with pytest.raises(DataError, match="2 or more, there are 1"):
        fit_transform(image_set(1), "zca")
