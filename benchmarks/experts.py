"""Experts: seconds of an epoch over those of a bare PyTorch loop, on the same net, images, batches and augmentation.

    python -m benchmarks.experts [--turns N] [--n-threads N] [--out FILE.json]

The bare loop is what one would write: a module, torch.optim.SGD, a copy of the weights after each epoch. Both train by
turns in one process from the same weights, in the same order, and the largest difference of their weights at the end is
printed beside the ratio. Seconds are the process's CPU time, as other work on the machine does not count there.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense.experts import sgd
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from condense.pixels.augmentation import augment
from condense.pixels.strategy import Strategy
from datagen.contracts.dataset import write_json
from datagen.contracts.seeding import derive_seed

N_CLASSES = 10
BAR = 1.1


@dataclass(frozen=True)
class Case:
    """What is trained."""

    net: str
    width: int
    shape: tuple[int, int, int]
    n_images: int
    batch_size: int
    epochs: int
    augmentation: Strategy


CASES = {
    "digits": Case("convnet2", 16, (1, 8, 8), 1197, 128, 5, "none"),
    "digits, augmented": Case("convnet2", 16, (1, 8, 8), 1197, 128, 5, "color_crop_cutout_scale_rotate"),
    "32 x 32, augmented": Case("convnet3", 32, (3, 32, 32), 1024, 256, 2, "color_crop_cutout_flip_scale_rotate"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--n-threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.n_threads)
    found = {name: measure(case, options.turns) for name, case in CASES.items()}
    for name, row in found.items():
        print(
            f"{name}: {row['ratio']} of the bare loop (bar {BAR}), {row['seconds_an_epoch']} s an epoch, "
            f"weights differ by {row['largest_difference']:.1e}"
        )
    if options.out:
        write_json(options.out, {"n_threads": options.n_threads, "turns": options.turns, "cases": found})


def measure(case: Case, turns: int) -> dict[str, Any]:
    """Median of the turns' ratios; the first turn warms up."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.n_images, *case.shape, generator=generator)
    labels = torch.randint(N_CLASSES, (case.n_images,), generator=generator)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    ends: dict[str, Tensor] = {}
    for turn in range(turns + 1):
        for who, train in (("ours", _ours), ("bare", _bare)):
            ends[who], spent = _timed(train, case, images, labels)
            if turn:
                seconds[who].append(spent / case.epochs)
    ratios = [ours / bare for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_by_turn": [round(ratio, 3) for ratio in ratios],
        "seconds_an_epoch": round(statistics.median(seconds["ours"]), 4),
        "bare_seconds_an_epoch": round(statistics.median(seconds["bare"]), 4),
        "largest_difference": float((ends["ours"] - ends["bare"]).abs().max()),
    }


def _timed(
    train: Callable[[Case, Tensor, Tensor], list[Tensor]], case: Case, images: Tensor, labels: Tensor
) -> tuple[Tensor, float]:
    start = time.process_time()
    snapshots = train(case, images, labels)
    return snapshots[-1], time.process_time() - start


def _module(case: Case) -> nn.Module:
    return open_net(case.net, case.shape, N_CLASSES, width=case.width, seed=0)


def _ours(case: Case, images: Tensor, labels: Tensor) -> list[Tensor]:
    config = sgd.Config(
        learning_rate=0.01, batch_size=case.batch_size, epochs=case.epochs, augmentation=case.augmentation
    )
    return list(sgd.sgd(config, FlatNet(_module(case)), images, labels, seed=0))


def _bare(case: Case, images: Tensor, labels: Tensor) -> list[Tensor]:
    module = _module(case)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    snapshots = [nn.utils.parameters_to_vector(module.parameters()).detach().clone()]
    for epoch in range(case.epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(derive_seed(0, "order", epoch)))
        for step, chosen in enumerate(order.split(case.batch_size)):
            batch = augment(images[chosen], case.augmentation, derive_seed(0, "augment", epoch, step))
            loss = nn.functional.cross_entropy(module(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        snapshots.append(nn.utils.parameters_to_vector(module.parameters()).detach().clone())
    return snapshots


if __name__ == "__main__":
    sys.exit(main())
