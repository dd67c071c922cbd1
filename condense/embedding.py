"""What trained experts say of images: embeddings to choose by, and which images they learned and forgot.

Source: none; used by `condense.coresets`.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from condense.trajectories import Trajectories

_ROWS = 1024


def embed(experts: Trajectories, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) what the last layer of the first expert reads at the end of its training, of images (N, C, H, W)."""
    parameters = experts.at(0, experts.n_epochs)
    with torch.no_grad():
        parts = [experts.net.features(parameters, part) for part in torch.from_numpy(pixels).split(_ROWS)]
    return torch.cat(parts).numpy()


def logits(experts: Trajectories, pixels: NDArray[np.float32], expert: int, epoch: int) -> NDArray[np.float32]:
    """(N, K) what an expert says of images (N, C, H, W) after an epoch."""
    parameters = experts.at(expert, epoch)
    with torch.no_grad():
        parts = [experts.net(parameters, part) for part in torch.from_numpy(pixels).split(_ROWS)]
    return torch.cat(parts).numpy()


def history(experts: Trajectories, pixels: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(E, N) whether the first expert classified each image rightly after each epoch, from the first to the last."""
    epochs = range(1, experts.n_epochs + 1)
    return np.stack([logits(experts, pixels, 0, epoch).argmax(1) == labels for epoch in epochs])
