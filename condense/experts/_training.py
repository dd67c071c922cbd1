"""One expert from its number to its file, wherever it is trained."""

from dataclasses import dataclass

import torch
from safetensors.numpy import save

from condense.experts._descent import count_right
from condense.experts._settings import Settings
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from condense.pixels.transform import Transform
from condense.trajectories import expert_arrays
from datagen.backends.transformers_models import device_type
from datagen.contracts.images import ImageSet
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import load_method


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How each expert is trained.

    Attributes:
        method: of `condense.experts`.
        settings: the method's Config.
        net: its name.
        width: where the name has none.
        seed: of all experts.
        n_threads: on the CPU.
    """

    method: str
    settings: Settings
    net: str
    width: int
    seed: int
    n_threads: int


def train_expert(plan: Plan, images: ImageSet, transform: Transform, index: int) -> bytes:
    """The file of expert `index`, whose weights, order and augmentation derive from the seed and this number."""
    device = device_type()
    if device == "cpu":
        torch.set_num_threads(plan.n_threads)
    seed = derive_seed(plan.seed, "expert", index)
    module = open_net(plan.net, images.shape, len(images.classes), width=plan.width, seed=seed)
    net = FlatNet(module.to(device))
    pixels = torch.from_numpy(transform.apply(images.pixels)).to(device)
    labels = torch.from_numpy(images.labels).to(device)
    method = getattr(load_method("condense.experts", plan.method), plan.method)
    snapshots = torch.stack([one.cpu() for one in method(plan.settings, net, pixels, labels, seed=seed)])
    n_right = count_right(net, snapshots[-1].to(device), pixels, labels, plan.settings.batch_size)
    return save(expert_arrays(snapshots.numpy(), n_right))
