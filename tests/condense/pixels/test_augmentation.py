"""Oracles: all shifts and holes by brute force, quarter turns by torch, and finite differences in float64.

Ramps' samples are known in closed form, and so are the means that colour changes keep.
"""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from condense.pixels.augmentation import _OPERATIONS, MAX_SCALE, _affine, augment
from condense.pixels.strategy import Strategy

N = 600
SIZE = 8


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(n: int = N, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, channels, SIZE, SIZE, generator=generator, dtype=torch.float64).to(dtype)


def only(operation: Any, images: Tensor, seed: int = 1) -> Tensor:
    """A strategy of one operation."""
    return augment(images, operation, seed)


def ramps(n: int) -> Tensor:
    """Channel 0 holds x, channel 1 holds y, in grid_sample's coordinates."""
    places = torch.linspace(-1, 1, SIZE)
    return torch.stack([places.expand(SIZE, SIZE), places[:, None].expand(SIZE, SIZE)]).expand(n, 2, SIZE, SIZE)


def test_every_strategy_names_operations_or_none():
    assert {name for one in get_args(Strategy) for name in one.split("_")} == {*_OPERATIONS, "none"}


def test_equal_seeds_equal_images_and_other_seeds_others():
    images = noise(4)
    strategy = "color_crop_cutout_flip_scale_rotate"
    before = torch.get_rng_state()
    drawn = [augment(images, strategy, seed) for seed in range(60)]
    assert all(torch.equal(one, augment(images, strategy, seed)) for seed, one in enumerate(drawn))
    assert torch.equal(torch.get_rng_state(), before)
    # two seeds of flips alone may draw the same
    assert len({tuple(one.flatten().tolist()) for one in drawn}) > 50


def test_one_operation_is_drawn_and_each_is():
    """Which one it was is told by what the same draws give with that operation alone."""
    images = noise(8)
    strategy = "color_crop_cutout_flip_scale_rotate"
    found = set[str]()
    for seed in range(60):
        augmented = augment(images, strategy, seed)
        generator = torch.Generator().manual_seed(seed)
        torch.randint(6, (), generator=generator)
        state = generator.get_state()
        for name, operation in _OPERATIONS.items():
            generator.set_state(state)
            if torch.equal(operation(images, generator), augmented):
                found.add(name)
    assert found == set(_OPERATIONS)


def test_none_leaves_the_images():
    images = noise(2)
    assert augment(images, "none", 0) is images


def test_float64_draws_what_float32_draws():
    for name in _OPERATIONS:
        close = only(name, noise(20, dtype=torch.float64)).float()
        torch.testing.assert_close(only(name, noise(20)), close, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", _OPERATIONS)
def test_gradients_are_finite_differences(name: str):
    images = noise(2, 2, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: only(name, one), images)


def test_crop_shifts_by_one_pixel_at_most():
    """8 x 0.125 = 1: nine shifts, all of them."""
    images = noise()
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    shifts = {(y, x): padded[:, :, y : y + SIZE, x : x + SIZE] for y in range(3) for x in range(3)}
    cropped = only("crop", images)
    found = [[place for place, one in shifts.items() if torch.equal(one[i], cropped[i])] for i in range(N)]
    assert all(len(places) == 1 for places in found)
    assert {places[0] for places in found} == set(shifts)


def test_cutout_is_a_rectangle_of_half_the_size_about_any_middle():
    cut = only("cutout", torch.ones(N, 2, SIZE, SIZE))
    middles = range(SIZE + 1)
    holes = set[tuple[float, ...]]()
    for y in middles:
        for x in middles:
            one = torch.ones(SIZE, SIZE)
            one[max(0, y - 2) : y + 2, max(0, x - 2) : x + 2] = 0
            holes.add(tuple(one.flatten().tolist()))
    found = {tuple(one[0].flatten().tolist()) for one in cut}
    assert found <= holes and len(found) > 0.9 * len(holes)
    assert torch.equal(cut[:, 0], cut[:, 1])


def test_flip_mirrors_about_half():
    """Binomial(600, 1/2): 4 standard deviations are 49."""
    images = noise()
    flipped = only("flip", images)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(int(mirrored.sum()) - N // 2) < 49


def test_colours_stay_in_their_ranges():
    """Saturation and contrast keep an image's mean, so the mean tells the brightness; contrast alone scales grey."""
    images = noise()
    coloured = only("color", images)
    brightness = (coloured - images).mean((1, 2, 3))
    grey_in, grey_out = images.mean(1), coloured.mean(1)
    contrast = grey_out.flatten(1).std(1) / grey_in.flatten(1).std(1)
    own_in, own_out = images - grey_in[:, None], coloured - grey_out[:, None]
    saturation = own_out.flatten(1).norm(dim=1) / own_in.flatten(1).norm(dim=1) / contrast
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (saturation, 0.0, 2.0)):
        assert values.min() > low - 1e-4 and values.max() < high + 1e-4
        assert values.min() < low + 0.02 * (high - low) and values.max() > high - 0.02 * (high - low)


def test_identity_leaves_the_images():
    images = noise(5)
    torch.testing.assert_close(_affine(images, torch.tensor([1.0, 0, 0, 1]).expand(5, 4)), images)


def test_a_quarter_turn_is_anticlockwise():
    images = noise(3)
    turned = _affine(images, torch.tensor([0.0, -1, 1, 0]).expand(3, 4))
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)))


def test_scale_is_within_a_fifth_and_by_axis():
    """A ramp sampled at s x is s x, wherever no sample is beyond the edge."""
    images = ramps(N)
    middle = only("scale", images)[:, :, 3:5, 3:5] / images[:, :, 3:5, 3:5]
    x, y = middle[:, 0, 0, 0], middle[:, 1, 0, 0]
    torch.testing.assert_close(middle[:, 0], x[:, None, None].expand(N, 2, 2))
    low, high = 1 / MAX_SCALE, MAX_SCALE
    for factor in (x, y):
        assert low - 1e-5 <= factor.min() < low + 0.01 and high - 0.01 < factor.max() <= high + 1e-5
    assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 4 / math.sqrt(N)


def test_rotation_is_within_15_degrees():
    """At (x, y) the ramps are cos x - sin y and sin x + cos y."""
    images = ramps(N)
    at_x, at_y = only("rotate", images)[:, :, 3, 4].T
    x, y = images[0, :, 3, 4].tolist()
    degrees = torch.rad2deg(torch.atan2(at_y, at_x) - math.atan2(y, x))
    torch.testing.assert_close(at_x.hypot(at_y), torch.full((N,), math.hypot(x, y)))
    assert -15.01 <= degrees.min() < -14.5 and 14.5 < degrees.max() <= 15.01
