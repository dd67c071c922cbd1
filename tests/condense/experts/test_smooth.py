"""Oracles: the plain expert, torch.optim.SGD, a linear net's penalty in closed form, finite differences in float64."""

import numpy as np
import torch
from torch import Tensor, nn

from condense.experts._penalty import slope_penalty
from condense.experts.sgd import Config as PlainConfig
from condense.experts.sgd import sgd
from condense.experts.smooth import Config, ramp, smooth
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from tests.condense.experts.linear import CHANNELS, CLASSES, N_PIXELS, SIZE, N, data, linear_net, taken

OFF = {"gradient_penalty": 0.0, "ramp_start": 1.0, "momentum": 0.0, "weight_decay": 0.0, "rate_drop": 1.0}


def test_all_off_is_the_plain_expert_bitwise():
    images, labels = data()
    net = FlatNet(open_net("convnet1", (CHANNELS, SIZE, SIZE), CLASSES, width=3, seed=0))
    shared = {"epochs": 5, "batch_size": 5, "learning_rate": 0.1}
    plain = taken(sgd(PlainConfig.model_validate(shared), net, images, labels, seed=1))
    found = taken(smooth(Config.model_validate(shared | OFF), net, images, labels, seed=1))
    np.testing.assert_array_equal(found, plain)


def test_the_ramp_of_the_published_code():
    """0.50, 0.55 to 0.95 in ten epochs, then 1."""
    found = [ramp(epoch, 0.5, 10) for epoch in range(13)]
    np.testing.assert_allclose(found, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1, 1], rtol=1e-12)
    assert found == sorted(found)


def test_the_first_step_is_as_much_shorter_as_the_ramp_says():
    shared = {"epochs": 1, "batch_size": N, "learning_rate": 0.5, "augmentation": "none"}
    plain = taken(sgd(PlainConfig.model_validate(shared), linear_net(), *data(), seed=0))
    found = taken(smooth(Config.model_validate(shared | OFF | {"ramp_start": 0.25}), linear_net(), *data(), seed=0))
    np.testing.assert_allclose(found[1] - found[0], 0.25 * (plain[1] - plain[0]), atol=1e-7)


def test_momentum_decay_and_drop_are_those_of_torch():
    """Whole batches; an optimiser of its own after the drop, 5 // 2 + 1 = epoch 3."""
    config = Config.model_validate(
        OFF | {"epochs": 5, "batch_size": N, "learning_rate": 0.4, "augmentation": "none", "momentum": 0.9,
               "weight_decay": 0.05, "rate_drop": 0.5}
    )  # fmt: skip
    images, labels = data()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(N_PIXELS, CLASSES))
    wanted = [nn.utils.parameters_to_vector(module.parameters()).detach().clone()]
    rate = 0.4
    optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9, weight_decay=0.05)
    for epoch in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
        wanted.append(nn.utils.parameters_to_vector(module.parameters()).detach().clone())
        if epoch == 3:
            rate *= 0.5
            optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9, weight_decay=0.05)
    found = taken(smooth(config, linear_net(), images, labels, seed=0))
    np.testing.assert_allclose(found, torch.stack(wanted).double().numpy(), atol=1e-5)


def test_the_penalty_of_a_linear_net_in_closed_form():
    """Whatever the images: the mean over pixels of (|sum over classes of its weights| - 1)^2, norms over channels."""
    net = linear_net()
    parameters = net.initial()
    weights = parameters[:-CLASSES].view(CLASSES, CHANNELS, SIZE, SIZE).double().numpy()
    wanted = ((np.sqrt((weights.sum(0) ** 2).sum(0)) - 1) ** 2).mean()
    for images in (data()[0], 5 * data()[0][:3]):
        np.testing.assert_allclose(slope_penalty(net, parameters, images).item(), wanted, rtol=1e-5)


def test_the_penalty_s_gradient_is_a_finite_difference():
    module = open_net("convnet1-instance", (CHANNELS, SIZE, SIZE), CLASSES, width=2, seed=0).double()
    net = FlatNet(module)
    images = data()[0][:2].double()

    def penalty(parameters: Tensor) -> Tensor:
        return slope_penalty(net, parameters, images)

    assert torch.autograd.gradcheck(penalty, net.initial().requires_grad_())


def test_the_penalty_draws_the_slope_to_one():
    shared = {"epochs": 40, "batch_size": N, "learning_rate": 0.05, "augmentation": "none"}
    config = Config.model_validate(shared | OFF | {"gradient_penalty": 20.0})
    net = linear_net()
    images, labels = data()
    free, held = (
        slope_penalty(net, torch.from_numpy(snapshots[-1]).float(), images).item()
        for snapshots in (
            taken(sgd(PlainConfig.model_validate(shared), net, images, labels, seed=0)),
            taken(smooth(config, net, images, labels, seed=0)),
        )
    )
    assert held < 0.1 * free
