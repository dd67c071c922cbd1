"""Oracles: the network itself, applied to one image at a time; the manifest's accuracies, which the training wrote."""

from pathlib import Path

import numpy as np
import pytest
import torch

from condense.embedding import embed, history, logits
from condense.trajectories import Trajectories
from datagen.contracts.images import read_images


def test_embeddings_and_history_are_the_network_s(digits: Path, experts: Path):
    images, trajectories = read_images(digits), Trajectories(experts)
    pixels = trajectories.transform.apply(images.pixels)
    last = trajectories.at(0, trajectories.n_epochs)
    one = torch.from_numpy(pixels[7:8])
    assert np.allclose(
        embed(trajectories, pixels)[7:8], trajectories.net.features(last, one).detach().numpy(), atol=1e-5
    )
    correct = history(trajectories, pixels, images.labels)
    assert correct.shape == (trajectories.n_epochs, len(images))
    assert correct[-1, 7] == (int(trajectories.net(last, one).argmax()) == images.labels[7])
    assert np.array_equal(
        logits(trajectories, pixels, 0, trajectories.n_epochs).argmax(1) == images.labels, correct[-1]
    )
    assert correct[-1].mean() > correct[0].mean()


def test_an_expert_that_learned_is_better_than_chance(digits: Path, experts: Path):
    images, trajectories = read_images(digits), Trajectories(experts)
    pixels = trajectories.transform.apply(images.pixels)
    accuracy = history(trajectories, pixels, images.labels)[-1].mean()
    assert accuracy == pytest.approx(1, abs=0.5)
