"""Oracles: softmax regression's gradient in closed form by numpy; each batch's images, looked up one by one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from condense.experts._descent import Batch, descend
from condense.experts.sgd import Config, sgd
from datagen.contracts.errors import ParamsError
from tests.condense.experts.linear import N, data, linear_net, slope, taken

WHOLE = Config(batch_size=N, epochs=4, augmentation="none", learning_rate=0.5)
SMALL = Config(batch_size=5, epochs=3, learning_rate=0.1)


def test_whole_batches_descend_along_the_closed_form_gradient():
    net = linear_net()
    found = taken(sgd(WHOLE, net, *data(), seed=0))
    wanted = [net.initial().double().numpy()]
    for _ in range(WHOLE.epochs):
        wanted.append(wanted[-1] - 0.5 * slope(wanted[-1]))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_epoch_holds_every_image_once_in_a_new_order():
    images, labels = data()
    images = torch.arange(N).view(N, 1, 1, 1) * torch.ones_like(images)
    seen: dict[int, list[Batch]] = {}

    def gradient(parameters: Tensor, batch: Batch) -> Tensor:
        seen.setdefault(batch.epoch, []).append(batch)
        return torch.zeros_like(parameters)

    settings = SMALL.model_copy(update={"augmentation": "none"})
    assert len(list(descend(linear_net(), images, labels, gradient, settings, seed=3))) == 4
    orders = [tuple(int(one[0, 0, 0]) for batch in seen[epoch] for one in batch.plain) for epoch in range(3)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len(set(orders)) == 3
    for batch in seen[0]:
        assert (batch.labels == batch.plain[:, 0, 0, 0].long() % 4).all()
        assert batch.augmented is batch.plain
    assert [len(batch.labels) for batch in seen[0]] == [5, 5, 2]


def test_equal_seeds_equal_experts():
    net = linear_net()
    first = taken(sgd(SMALL, net, *data(), seed=7))
    assert (first == taken(sgd(SMALL, net, *data(), seed=7))).all()
    other = taken(sgd(SMALL, net, *data(), seed=8))
    assert (first[0] == other[0]).all() and (first[1:] != other[1:]).any()


def test_augmentation_is_of_the_seed_too():
    """Whole batches, whose order changes no more than rounding."""
    augmented = Config(batch_size=N, epochs=2, learning_rate=0.5)
    plain = taken(sgd(WHOLE, linear_net(), *data(), seed=0))[:3]
    assert np.abs(taken(sgd(augmented, linear_net(), *data(), seed=0)) - plain).max() > 1e-3


def test_snapshots_are_copies():
    """Whoever changes one changes no other, nor the training, nor the net."""
    net = linear_net()
    wanted = taken(sgd(SMALL, net, *data(), seed=0))
    found = list[Tensor]()
    for one in sgd(SMALL, net, *data(), seed=0):
        found.append(one.clone())
        one.zero_()
    np.testing.assert_array_equal(torch.stack(found).double().numpy(), wanted)
    np.testing.assert_array_equal(net.initial().double().numpy(), wanted[0])
    kept = list(sgd(SMALL, net, *data(), seed=0))
    assert len({one.data_ptr() for one in kept}) == 4


def test_a_rate_that_is_too_high_is_said():
    config = Config(batch_size=N, epochs=9, augmentation="none", learning_rate=1e39)
    with pytest.raises(ParamsError, match=r"learning_rate: .* infinite in epoch \d \(got 1e\+39\); lower it"):
        list(sgd(config, linear_net(), *data(), seed=0))
