"""Oracles: images put together by hand; the best crops found by loops; the expert's own logits."""

import dataclasses
from pathlib import Path

import pytest
import torch

from condense.images import Task
from condense.images._embedding import draw_real
from condense.images._patches import pad, random_crops, stitch
from condense.images.realistic_patches import Config, realistic_patches
from condense.trajectories import Trajectories
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.seeding import derive_seed
from tests.condense.images.tasks import check_resumes, make_task


@pytest.fixture
def task(digits: Path, experts: Path) -> Task:
    return make_task(digits, Trajectories(experts), images_per_class=2, seed=3)


def test_patches_side_by_side_by_hand():
    """Two images of four patches: of numbers 0 to 7 the first holds the even ones, row by row."""
    patches = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 2, 3)
    images = stitch(patches, 2, 4, 6)
    assert images.shape == (2, 1, 4, 6)
    for i in range(2):
        corners = [[images[i, 0, row, column].item() for column in (0, 2, 3, 5)] for row in (0, 1, 2, 3)]
        assert corners == [[i, i, 2 + i, 2 + i]] * 2 + [[4 + i, 4 + i, 6 + i, 6 + i]] * 2


def test_sides_that_the_factor_does_not_divide_and_one_patch_alone():
    patches = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    assert stitch(patches, 2, 5, 5)[0, 0].tolist() == [[0, 0, 0, 1, 1]] * 3 + [[2, 2, 2, 3, 3]] * 2
    whole = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stitch(whole, 1, 5, 4), whole)


def test_padding_by_hand():
    assert pad(torch.ones(1, 1, 2, 1), 4, 4)[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_crops_are_parts_of_their_image():
    """In an image whose pixels say their column, a crop rises evenly, by its share of the side: 0.28 to 1."""
    image = torch.arange(64.0).expand(1, 1, 64, 64)
    crops = random_crops(image.expand(300, -1, -1, -1), 1, torch.Generator().manual_seed(0))
    assert crops.shape == (300, 1, 64, 64)
    assert crops.min() >= 0 and crops.max() <= 63
    slopes = (crops[:, 0, 0, 48] - crops[:, 0, 0, 16]) / 32
    assert 0.08**0.5 - 0.01 < slopes.min() < 0.35 and 0.95 < slopes.max() <= 1.0 + 1e-5
    assert abs((slopes**2).mean() - 0.54) < 5 * 0.92 / 12**0.5 / 300**0.5  # the area's share is uniform in 0.08 to 1
    assert random_crops(image, 2, torch.Generator().manual_seed(0)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_best_crops_of_each_class_fill_its_images(task: Task, factor: int):
    """Every crop of every image scored by cross-entropy in a loop, one image after another, by the first expert."""
    config = Config.model_validate({"factor": factor, "n_images": 12, "n_crops": 3})
    learner = realistic_patches(config, task)
    losses = [learner.step(label) for label in range(10)]
    learned, experts = learner.result(), task.trajectories
    assert experts is not None and learned.soft_labels is not None and learned.step_size is None
    assert learned.labels.tolist() == [label for label in range(10) for _ in range(2)]
    theta, needed = experts.at(0, 6), 2 * factor**2
    for label in (0, 7):
        seed = derive_seed(task.seed, "realistic_patches", label)
        generator = torch.Generator().manual_seed(derive_seed(seed, "crops"))
        images = draw_real(task, label, 12, seed)
        assert len(images) == 12
        rounds = [random_crops(images, factor, generator) for _ in range(3)]
        scored = []
        for i in range(12):
            logits = [experts.net(theta, pad(crops[i : i + 1], 8, 8)) for crops in rounds]
            of_crops = [torch.nn.functional.cross_entropy(one, torch.tensor([label])).item() for one in logits]
            scored.append((min(of_crops), of_crops.index(min(of_crops)), i))
        best = sorted(scored)[:needed]
        patches = torch.stack([rounds[k][i] for _, k, i in best])
        assert torch.allclose(learned.pixels[learned.labels == label], stitch(patches, factor, 8, 8))
        assert losses[label] == pytest.approx(sum(loss for loss, _, _ in best) / needed, rel=1e-4)
    assert torch.allclose(learned.soft_labels, experts.net(theta, learned.pixels), atol=1e-5)


def test_hard_labels_where_soft_ones_are_not_wanted(task: Task):
    assert realistic_patches(Config.model_validate({"soft_labels": False}), task).result().soft_labels is None


def test_a_resumed_run_is_an_unbroken_one(task: Task):
    check_resumes(lambda: realistic_patches(Config.model_validate({"factor": 2}), task), 6)


def test_what_cannot_be_filled_is_refused(task: Task):
    with pytest.raises(ParamsError, match=r"factor: images are 8 x 8; give at most 8 \(got 9\)"):
        realistic_patches(Config.model_validate({"factor": 9, "n_images": 1000}), task)
    with pytest.raises(ParamsError, match=r"n_images: 18 patches fill a class, one of each image \(got 17\)"):
        realistic_patches(Config.model_validate({"factor": 3, "n_images": 17}), task)
    with pytest.raises(DataError, match=r"class 0 has \d+, 50 patches fill its condensed images"):
        realistic_patches(Config.model_validate({"factor": 5}), task)
    with pytest.raises(ParamsError, match="realistic_patches follows experts"):
        realistic_patches(Config.model_validate({}), dataclasses.replace(task, trajectories=None))
