"""A linear classifier on few images, whose gradient is known in closed form: what experts are checked with."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from condense.nets.flat import FlatNet

N, CHANNELS, SIZE, CLASSES = 12, 2, 3, 4
N_PIXELS = CHANNELS * SIZE * SIZE


def linear_net(seed: int = 0) -> FlatNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FlatNet(nn.Sequential(nn.Flatten(), nn.Linear(N_PIXELS, CLASSES)))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(N, CHANNELS, SIZE, SIZE, generator=generator)
    return images, torch.arange(N) % CLASSES


def slope(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean cross-entropy: (softmax - one-hot)' x / N for the weights, its column sums for the biases."""
    images, labels = data()
    x = images.flatten(1).double().numpy()
    weights, biases = parameters[:-CLASSES].reshape(CLASSES, N_PIXELS), parameters[-CLASSES:]
    logits = x @ weights.T + biases
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (shares - np.eye(CLASSES)[labels.numpy()]) / N
    return np.concatenate([(error.T @ x).ravel(), error.sum(0)])


def taken(snapshots: Iterator[Tensor]) -> NDArray[np.float64]:
    """(E + 1, P)."""
    return torch.stack(list(snapshots)).double().numpy()
