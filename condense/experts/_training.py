"""One expert from its number to its file, wherever it is trained."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save

from condense.experts._descent import count_right
from condense.experts._settings import Settings
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from condense.pixels.transform import Kind, Transform, fit_transform
from condense.trajectories import expert_arrays, part, write_whole
from datagen.backends.transformers_models import device_type
from datagen.contracts.images import ImageSet, read_images
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import load_method

log = logging.getLogger(__name__)


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
    torch.set_float32_matmul_precision("high" if plan.settings.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = plan.settings.precision == "tf32"
    seed = derive_seed(plan.seed, "expert", index)
    module = open_net(plan.net, images.shape, len(images.classes), width=plan.width, seed=seed)
    net = FlatNet(module.to(device))
    pixels = torch.from_numpy(transform.apply(images.pixels)).to(device)
    labels = torch.from_numpy(images.labels).to(device)
    method = getattr(load_method("condense.experts", plan.method), plan.method)
    snapshots = torch.stack([one.cpu() for one in method(plan.settings, net, pixels, labels, seed=seed)])
    n_right = count_right(net, snapshots[-1].to(device), pixels, labels, plan.settings.batch_size)
    return save(expert_arrays(snapshots.numpy(), n_right))


def train_share(
    plan: Mapping[str, Any], settings: Mapping[str, Any], images: str, kind: Kind, folder: str, numbers: Sequence[int]
) -> None:
    """One of torchrun's processes: every n-th of the experts with these numbers, each into the folder when it is done.

    Several processes may share a device; process r works on device r modulo their number.

    Args:
        plan: fields of Plan but `settings`.
        settings: fields of the method's Config.
        images: dataset of Images or .npz file.
        kind: of the transform.
        folder: of the experts' files.
        numbers: of the experts that are still to train.
    """
    rank, n_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device_type() == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    config = load_method("condense.experts", plan["method"]).Config(**settings)
    read = read_images(Path(images))
    transform = fit_transform(read, kind)
    for index in numbers[rank::n_processes]:
        write_whole(Path(folder, part(index)), train_expert(Plan(**plan, settings=config), read, transform, index))
        log.info("expert %d is trained, by process %d of %d", index, rank, n_processes)
