"""Oracles: no distance between a set and itself; a linear embedding in closed form; embeddings measured anew."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condense.images import Task
from condense.images._embedding import augment_alike, match_classes, squared_mean_distance
from condense.images.distribution_matching import Config, distribution_matching
from condense.nets.opening import open_net
from condense.pixels.augmentation import augment
from datagen.contracts.errors import ParamsError
from datagen.contracts.seeding import derive_seed
from tests.condense.images.tasks import check_resumes, make_task

SMALL: dict[str, Any] = {"iterations": 6, "batch_size": 20, "augmentation": "color_crop_cutout_scale_rotate"}


@pytest.fixture
def task(digits: Path) -> Task:
    return make_task(digits, None, images_per_class=2, seed=3)


def first_of_each_class(task: Task, n: int) -> Task:
    rows = torch.cat([torch.nonzero(task.labels == label)[:n, 0] for label in range(10)])
    return dataclasses.replace(task, images=task.images[rows], labels=task.labels[rows], images_per_class=n)


def run(config: Config, task: Task) -> tuple[list[float], torch.Tensor]:
    learner = distribution_matching(config, task)
    return [learner.step(i) for i in range(learner.n_iterations)], learner.result().pixels


@pytest.mark.parametrize("augmentation", ["none", "color_crop_cutout_flip_scale_rotate"])
def test_the_whole_set_is_at_no_distance_from_itself(task: Task, augmentation: str):
    """All 8 images of each class, in another order, augmented alike or not at all: 0 but for rounding, so they stay."""
    whole = first_of_each_class(task, 8)
    config = Config.model_validate({"iterations": 4, "augmentation": augmentation})
    losses, pixels = run(config, whole)
    assert max(losses) < 1e-8
    start = distribution_matching(config, whole).result()
    assert torch.allclose(pixels, start.pixels, atol=1e-5)
    for label in range(10):
        images = start.pixels[start.labels == label].flatten(1).tolist()
        assert sorted(images) == sorted(whole.images[whole.labels == label].flatten(1).tolist())


def test_a_linear_embedding_in_closed_form():
    """Loss |W (s - r)|^2 for means s and r, gradient 2 W'W (s - r) / n for each of a class's n images; by numpy."""
    draw = np.random.default_rng(0)
    matrix, real, pixels = draw.normal(size=(5, 12)), draw.normal(size=(2, 7, 12)), draw.normal(size=(5, 12))
    labels = np.array([0, 1, 1, 0, 1])

    def loss(label: int, condensed: torch.Tensor) -> torch.Tensor:
        weight = torch.from_numpy(matrix)
        return squared_mean_distance(torch.from_numpy(real[label]) @ weight.T, condensed.flatten(1) @ weight.T)

    total, gradient = match_classes(torch.from_numpy(pixels).view(5, 3, 2, 2), torch.from_numpy(labels), loss)
    gaps = [pixels[labels == label].mean(axis=0) - real[label].mean(axis=0) for label in (0, 1)]
    assert total.item() == pytest.approx(sum(((matrix @ gap) ** 2).sum() for gap in gaps), rel=1e-12)
    expected = np.stack([2 * matrix.T @ matrix @ gaps[label] / (labels == label).sum() for label in labels])
    assert np.allclose(gradient.flatten(1).numpy(), expected, rtol=1e-12)


def test_other_networks_find_the_means_nearer(task: Task):
    """Over five networks that it never saw, the squared distance falls to less than 0.7."""
    learner = distribution_matching(Config.model_validate({"iterations": 30, "augmentation": "none"}), task)
    before = learner.result()
    for i in range(30):
        learner.step(i)
    after = learner.result()

    def distance(pixels: torch.Tensor) -> float:
        total = 0.0
        for seed in range(100, 105):
            features = open_net("convnet2", (1, 8, 8), 10, width=4, seed=seed).get_submodule("features")
            with torch.no_grad():
                for label in range(10):
                    real, condensed = task.images[task.labels == label], pixels[before.labels == label]
                    total += float((features(real).mean(0) - features(condensed).mean(0)).square().sum())
        return total

    assert distance(after.pixels) < 0.7 * distance(before.pixels)


def test_a_class_is_matched_for_itself(task: Task):
    """Other real images of class 1 change what becomes of class 1, and nothing else."""
    config = Config.model_validate(SMALL)
    _, pixels = run(config, task)
    images = task.images.clone()
    images[task.labels == 1] = images[task.labels == 1].flip(3) * 2
    _, changed = run(config, dataclasses.replace(task, images=images))
    own = distribution_matching(config, task).result().labels == 1
    assert torch.equal(pixels[~own], changed[~own])
    assert not torch.equal(pixels[own], changed[own])


def test_real_and_condensed_images_are_augmented_alike(task: Task):
    """Each image of a batch as if it were augmented alone, so an image in both batches is changed in one way."""
    seen = set()
    for seed in range(40):
        changed = augment_alike(task.images[:5], "color_crop_cutout_flip_scale_rotate", seed)
        alone = [augment(task.images[i : i + 1], "color_crop_cutout_flip_scale_rotate", seed) for i in range(5)]
        assert torch.allclose(changed, torch.cat(alone), atol=1e-5)
        seen.add(torch.equal(changed, task.images[:5]))
    assert False in seen
    leaf = task.images[:2].clone().requires_grad_()
    augment_alike(leaf, "color_crop_cutout_flip_scale_rotate", 1).sum().backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_a_resumed_run_is_an_unbroken_one(task: Task):
    learned = check_resumes(lambda: distribution_matching(Config.model_validate(SMALL), task), 4)
    assert (learned.soft_labels, learned.step_size) == (None, None)


def test_batch_normalisation_is_refused(task: Task):
    with pytest.raises(ParamsError, match="state that is no parameter"):
        distribution_matching(Config.model_validate(SMALL), dataclasses.replace(task, net="convnet2-batch"))


def test_the_first_loss_by_a_plain_loop(task: Task):
    """All real images, no augmentation: the sum over one network's classes, by autograd of the whole set at once."""
    config = Config.model_validate(
        {"iterations": 1, "batch_size": 1000, "augmentation": "none", "image_learning_rate": 1.0}
    )
    learner = distribution_matching(config, task)
    before = learner.result()
    loss = learner.step(0)
    gradient = before.pixels - learner.result().pixels  # of one step of SGD at rate 1
    leaf = before.pixels.clone().requires_grad_()
    seed = derive_seed(derive_seed(task.seed, "distribution_matching", 0), "net")
    net = open_net("convnet2", (1, 8, 8), 10, width=4, seed=seed).get_submodule("features")
    terms = []
    for label in range(10):
        gap = net(task.images[task.labels == label]).mean(0) - net(leaf[before.labels == label]).mean(0)
        terms.append(gap.square().sum())
    total = torch.stack(terms).sum()
    total.backward()
    assert loss == pytest.approx(total.item(), rel=1e-4)
    assert leaf.grad is not None and torch.allclose(gradient, leaf.grad, rtol=1e-3, atol=1e-5)
