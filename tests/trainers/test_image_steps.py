"""Oracles: closed forms, a bare loop of PyTorch, counts by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest import approx
from torch.nn import functional

from condense.pixels.augmentation import augment
from condense.pixels.transform import fit_transform
from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.seeding import derive_seed
from tests.tiny_images import tiny_images
from trainers import loop
from trainers.image_steps import Position, Steps, accuracy, fresh_net, loop_config, loss_of, on_device, real_set

CPU = torch.device("cpu")


class Scores(torch.nn.Module):
    """Logits of an image: its mean times (1, 2, ..., K)."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.arange(1.0, n_classes + 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None] * self.scale


def steps(**more: Any) -> Steps:
    return Steps(**{"n_threads": 1, **more})


def rows(n: int) -> list[Position]:
    return [Position(at) for at in range(n)]


@pytest.mark.parametrize("n_images", [1, 7, 64, 65, 1000])
@pytest.mark.parametrize("n_steps", [1, 5, 100])
def test_sets_of_any_size_train_as_long(n_images: int, n_steps: int):
    """Oracle: the loop's own count; a step holds the whole batch in one piece."""
    config = loop_config(steps(n_steps=n_steps, batch_size=64), n_images, 0.1, 3)
    assert loop.n_steps(config, n_images) == n_steps
    assert config.micro_batch_tokens >= config.batch_size


def test_momentum_is_of_sgd_alone():
    for optimizer, momentum in (("sgd", 0.9), ("adamw", 0.0)):
        config = loop_config(steps(optimizer=optimizer), 10, 0.1, 3)
        assert (config.optimizer, config.momentum, config.max_gradient_norm) == (optimizer, momentum, None)


def test_losses_in_closed_form():
    """Images of mean 0 have uniform logits: ln K a label; of mean 1 logits 1, 2, 3, of which the softmax is known."""
    images = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    total = sum(math.exp(k) for k in (1, 2, 3))
    log_probs = [k - math.log(total) for k in (1, 2, 3)]
    hard = loss_of(images, torch.tensor([0, 2]), "none")(Scores(3), rows(2), CPU)
    assert hard.sum.item() == approx(math.log(3) - log_probs[2], rel=1e-6) and hard.n.item() == 2
    soft = loss_of(images, torch.tensor([[1.0, 0, 0], [0.5, 0.25, 0.25]]), "none")(Scores(3), rows(2)[1:], CPU)
    expected = -sum(p * log for p, log in zip((0.5, 0.25, 0.25), log_probs, strict=True))
    assert soft.sum.item() == approx(expected, rel=1e-6) and soft.n.item() == 1
    taught = loss_of(images, torch.tensor([0, 0]), "none", teacher=Scores(3))(Scores(3), rows(2)[1:], CPU)
    entropy = -sum(math.exp(log) * log for log in log_probs)
    assert taught.sum.item() == approx(entropy, rel=1e-6)


def test_a_teacher_sees_what_the_student_sees_and_learns_nothing():
    """Oracle: its probabilities for the batch as the step's seed augments it."""
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    teacher, student = Scores(3), Scores(3)
    strategy = "color_crop_cutout_scale_rotate"
    loss = loss_of(images, torch.zeros(6, dtype=torch.int64), strategy, teacher)
    torch.manual_seed(11)
    found = loss(student, rows(6), CPU)
    seen = augment(images, strategy, 11)
    assert not torch.equal(seen, images)
    wanted = torch.softmax(teacher(seen), dim=1)
    assert found.sum.item() == approx(-(wanted * student(seen).log_softmax(dim=1)).sum().item(), rel=1e-6)
    found.sum.backward()
    assert teacher.scale.grad is None and student.scale.grad is not None


def test_students_train_as_in_a_bare_loop(tmp_path: Path):
    """Oracle: SGD with momentum as its paper has it, full batches, a tenth of the rate in the second half."""
    images = tiny_images(4)
    seen, labels = on_device(real_set(images, fit_transform(images, "standard")), hard=True)
    net = fresh_net("mlp", images.shape, 3, 16, 5)
    bare = fresh_net("mlp", images.shape, 3, 16, 5)
    loss = loss_of(seen, labels, "none")
    loop.train(net, rows(12), loss, loop_config(steps(n_steps=10), 12, 0.05, 5), Checkpoints(tmp_path))
    velocities = [torch.zeros_like(one) for one in bare.parameters()]
    for step in range(10):
        bare.zero_grad()
        functional.cross_entropy(bare(seen), labels).backward()
        with torch.no_grad():
            for one, velocity in zip(bare.parameters(), velocities, strict=True):
                assert one.grad is not None
                velocity.mul_(0.9).add_(one.grad + 5e-4 * one)
                one -= (0.05 if step < 5 else 0.005) * velocity
    for found, wanted in zip(net.parameters(), bare.parameters(), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_equal_seeds_start_from_equal_weights():
    nets = [fresh_net("mlp", (1, 8, 8), 3, 16, seed) for seed in (1, 1, 2)]
    first, same, other = ([one.clone() for one in net.parameters()] for net in nets)
    assert all(map(torch.equal, first, same)) and not all(map(torch.equal, first, other))


def test_targets_are_labels_or_the_softmax_of_soft_labels():
    """Logits (0, ln 3, ln 4) are (1, 3, 4) / 8."""
    images = tiny_images(1)
    logits = np.tile(np.log(np.array([1, 3, 4], np.float32)), (3, 1))
    with_soft = real_set(images, fit_transform(images, "standard"), logits)
    assert on_device(with_soft, hard=False)[1].tolist() == [approx([1 / 8, 3 / 8, 4 / 8])] * 3
    assert on_device(with_soft, hard=True)[1].tolist() == [0, 1, 2]


def test_accuracy_by_hand():
    """A mean above 0 is the last class's, one below the first's; 3 of 4 are right, in training mode or not."""
    images = torch.tensor([1.0, -1.0, 2.0, -3.0])[:, None, None, None].expand(4, 1, 2, 2)
    net: Any = Scores(3).train()
    assert accuracy(net, images, torch.tensor([2, 0, 2, 1])) == 0.75


def test_the_noise_of_a_step_is_that_of_its_seed():
    """The augmentation reads the seed that the loop set, which no other draw moves."""
    images = torch.rand(4, 1, 8, 8)
    labels = torch.zeros(4, dtype=torch.int64)
    loss = loss_of(images, labels, "color_crop_cutout_scale_rotate")
    found: list[float] = []
    for draws in (0, 3):
        torch.manual_seed(derive_seed(0, "noise", 1, 0))
        torch.rand(draws)
        found.append(loss(Scores(3), rows(4), CPU).sum.item())
    assert found[0] == found[1]
