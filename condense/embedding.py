"""What trained experts say of images: embeddings to choose by, and which images they learned and forgot.

Source: none; used by `condense.coresets`.
"""

import torch
from torch import Tensor

from condense.trajectories import Trajectories

_ROWS = 1024


def embed(experts: Trajectories, images: Tensor) -> Tensor:
    """(N, D) what the last layer of the first expert reads at the end of its training, of images (N, C, H, W)."""
    parameters = experts.at(0, experts.n_epochs).to(images.device)
    with torch.no_grad():
        return torch.cat([experts.net.features(parameters, part) for part in images.split(_ROWS)])


def logits(experts: Trajectories, images: Tensor, expert: int, epoch: int) -> Tensor:
    """(N, K) what an expert says of images (N, C, H, W) after an epoch."""
    parameters = experts.at(expert, epoch).to(images.device)
    with torch.no_grad():
        return torch.cat([experts.net(parameters, part) for part in images.split(_ROWS)])


def history(experts: Trajectories, images: Tensor, labels: Tensor) -> Tensor:
    """(E, N) whether the first expert classified each image rightly after each epoch, from the first to the last."""
    epochs = range(1, experts.n_epochs + 1)
    return torch.stack([logits(experts, images, 0, epoch).argmax(1) == labels for epoch in epochs])
