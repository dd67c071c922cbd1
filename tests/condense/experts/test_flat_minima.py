"""Oracles: the plain expert, the closed-form gradient of softmax regression by numpy, and steps drawn at random."""

import numpy as np
import pytest
import torch

from condense.experts._sharpness import uphill, without_orthogonal
from condense.experts.flat_minima import Config, flat_minima
from condense.experts.sgd import Config as PlainConfig
from condense.experts.sgd import sgd
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from tests.condense.experts.linear import CHANNELS, CLASSES, SIZE, N, data, linear_net, slope, taken


def vectors(n: int = 2, size: int = 7) -> torch.Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_radius_zero_is_the_plain_expert(alpha: float):
    """Bitwise with alpha 0; else the part orthogonal to itself is 0 up to rounding."""
    net = FlatNet(open_net("convnet1", (CHANNELS, SIZE, SIZE), CLASSES, width=3, seed=0))
    shared = {"epochs": 3, "batch_size": 5, "learning_rate": 0.1}
    plain = taken(sgd(PlainConfig.model_validate(shared), net, *data(), seed=1))
    found = taken(flat_minima(Config.model_validate(shared | {"rho": 0.0, "alpha": alpha}), net, *data(), seed=1))
    np.testing.assert_allclose(found, plain, rtol=0, atol=0 if alpha == 0 else 1e-5)


def test_uphill_is_the_steepest_step_of_its_radius():
    """|step / theta| = rho; no step of that radius has a larger product with the gradient, and it is rho |theta g|."""
    theta, gradient = vectors()
    step = uphill(theta, gradient, 0.3)
    assert (step / theta).norm().item() == pytest.approx(0.3)
    best = (step @ gradient).item()
    assert best == pytest.approx(0.3 * (theta * gradient).norm().item())
    drawn = vectors(2000)
    others = 0.3 * drawn / drawn.norm(dim=1, keepdim=True) * theta
    assert (others @ gradient).max().item() <= best


def test_uphill_of_a_flat_place_is_nowhere():
    theta = vectors()[0]
    assert (uphill(theta, torch.zeros_like(theta), 0.3) == 0).all()


def test_what_is_left_out_is_orthogonal():
    """Pythagoras: here = along + across, and alpha times across is taken off."""
    there, here = vectors()
    taken_off = there - without_orthogonal(there, here, 0.4)
    assert (taken_off @ there).item() == pytest.approx(0, abs=1e-12)
    across = here.square().sum() - (here @ there) ** 2 / there.square().sum()
    assert (taken_off / 0.4).square().sum().item() == pytest.approx(across.item())
    assert torch.equal(without_orthogonal(there, here, 0.0), there)


def test_steps_of_softmax_regression_by_numpy():
    config = Config(epochs=3, batch_size=N, learning_rate=0.5, augmentation="none", rho=0.2, alpha=0.5)
    net = linear_net()
    wanted = [net.initial().double().numpy()]
    for _ in range(3):
        theta = wanted[-1]
        here = slope(theta)
        there = slope(theta + 0.2 * theta**2 * here / np.linalg.norm(theta * here))
        across = here - (here @ there) / (there @ there) * there
        wanted.append(theta - 0.5 * (there - 0.5 * across))
    np.testing.assert_allclose(taken(flat_minima(config, net, *data(), seed=0)), wanted, atol=1e-6)
