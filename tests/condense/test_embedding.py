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
    pixels = torch.from_numpy(trajectories.transform.apply(images.pixels))
    last = trajectories.at(0, trajectories.n_epochs)
    one = pixels[7:8]
    assert torch.allclose(embed(trajectories, pixels)[7:8], trajectories.net.features(last, one), atol=1e-5)
    correct = history(trajectories, pixels, torch.from_numpy(images.labels))
    assert correct.shape == (trajectories.n_epochs, len(images))
    assert correct[-1, 7] == (int(trajectories.net(last, one).argmax()) == images.labels[7])
    says = logits(trajectories, pixels, 0, trajectories.n_epochs).argmax(1).numpy()
    assert np.array_equal(says == images.labels, correct[-1].numpy())
    assert correct[-1].sum() > correct[0].sum()


def test_the_last_epoch_is_as_right_as_the_training_said(digits: Path, experts: Path):
    images, trajectories = read_images(digits), Trajectories(experts)
    pixels = torch.from_numpy(trajectories.transform.apply(images.pixels))
    accuracy = history(trajectories, pixels, torch.from_numpy(images.labels))[-1].double().mean()
    assert float(accuracy) == pytest.approx(trajectories.manifest["train_accuracy"][0], abs=1e-9)
