"""Trajectory matching beside the authors' code: the same experts, images, labels and steps, one thread.

    python -m benchmarks.matching_peer --peer FOLDER [--iterations N] [--out FILE.json]

FOLDER holds https://github.com/GeorgeCazenavette/mtt-distillation. The lines of its `distill.py` that open and train a
student, take the gradient and update the images run as they are, with its ReparamModule and ConvNet: SGD with momentum
0.5, the step size fixed, no augmentation, an expert's two epochs an iteration. Ours is the matching and update of
`condense.images.trajectory_matching`. The expert learns scikit-learn's digits, enlarged to 3 x 32 x 32.

    loss    largest relative difference of the matching loss over the iterations, N = 20 inner steps: in float64, where
            it says whether both compute the same, and in float32, whose rounding grows over the steps
    time    CPU seconds of an iteration over theirs, by turns in one process, medians
    memory  peak of a process of its own above what it held before, over theirs, N = 60 inner steps
"""

import argparse
import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.matching import memory_mb
from condense.experts import sgd
from condense.images._learning import Variables, inner_loss
from condense.images._matching import MATCHINGS, Target
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from datagen.contracts.dataset import write_json

SHAPE, N_CLASSES, WIDTH, DEPTH = (3, 32, 32), 10, 32, 3
STEP_SIZE, IMAGE_RATE = 0.01, 10.0
N_STEPS, MEMORY_STEPS, EXPERT_EPOCHS = 20, 60, 2
BARS = {"loss float64": 1e-4, "time unrolled": 0.8, "time adjoint": 1.1, "memory adjoint": 0.4}
Step = Callable[[Tensor, Tensor], float]  # the matching loss from an epoch of an expert to a later one; images updated


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder of the authors' code")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--peak-of", metavar="WHO", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.peak_of:
        print(json.dumps(peak_mb(options.peak_of, options.peer)))
        return
    double, found = (compare(options.peer, options.iterations, dtype) for dtype in (torch.float64, torch.float32))
    command = [sys.executable, "-m", "benchmarks.matching_peer", "--peer", str(options.peer), "--peak-of"]
    peaks = {
        who: json.loads(subprocess.run([*command, who], check=True, capture_output=True, text=True).stdout)
        for who in ("peer", "adjoint", "unrolled")
    }
    found |= {"loss float32": found.pop("loss"), "loss float64": double["loss"], "peak_mb": peaks}
    found |= {f"memory {who}": round(peaks[who] / peaks["peer"], 3) for who in peaks}
    for key in ("loss float64", "loss float32", "time unrolled", "time adjoint", "memory adjoint", "memory unrolled"):
        print(f"{key}: {found[key]} (bar {BARS.get(key, 'none')})")
    if options.out:
        write_json(options.out, {"iterations": options.iterations, "bars": BARS} | found)


def compare(folder: Path, iterations: int, dtype: torch.dtype) -> dict[str, Any]:
    """Losses and seconds, by turns."""
    images, labels = digits(dtype)
    first = [int((labels == label).nonzero()[0]) for label in range(N_CLASSES)]
    config = sgd.Config(learning_rate=0.01, batch_size=64, epochs=5, augmentation="none")
    expert = list(sgd.sgd(config, net(dtype), images, labels, seed=0))
    images, labels = images[first], labels[first]
    steps = {who: open_step(who, folder, images, labels, N_STEPS) for who in ("peer", "adjoint", "unrolled")}
    losses: dict[str, list[float]] = {who: [] for who in steps}
    seconds: dict[str, list[float]] = {who: [] for who in steps}
    for iteration in range(iterations):
        epoch = iteration % (len(expert) - EXPERT_EPOCHS)
        for who, step in steps.items():
            start = time.process_time()
            losses[who].append(step(expert[epoch], expert[epoch + EXPERT_EPOCHS]))
            seconds[who].append(time.process_time() - start)
    medians = {who: statistics.median(spent) for who, spent in seconds.items()}
    theirs = np.array(losses["peer"])
    apart = {who: float(np.max(np.abs(np.array(losses[who]) / theirs - 1))) for who in ("adjoint", "unrolled")}
    return {
        "loss": max(apart.values()),
        "loss_by_gradient": apart,
        "losses": [round(one, 6) for one in losses["peer"]],
        "seconds": {who: round(median, 4) for who, median in medians.items()},
        "time unrolled": round(medians["unrolled"] / medians["peer"], 3),
        "time adjoint": round(medians["adjoint"] / medians["peer"], 3),
    }


def peak_mb(who: str, folder: Path) -> float:
    """Of this process, by one iteration; an expert that had been trained here would have left memory to use."""
    images, labels = digits(torch.float32)
    step = open_step(who, folder, images[:N_CLASSES].clone(), labels[:N_CLASSES], MEMORY_STEPS)
    start = net(torch.float32).initial()
    before = memory_mb("VmRSS")
    step(start, start + 0.01)
    return round(memory_mb("VmHWM") - before, 1)


def digits(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(512, 3, 32, 32) images and (512,) labels."""
    pixels, targets = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels[:512]).to(dtype).view(-1, 1, 8, 8) / 16
    images = torch.nn.functional.interpolate((images - images.mean()) / images.std(), size=SHAPE[1:], mode="bilinear")
    return images.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(targets[:512]).long()


def net(dtype: torch.dtype) -> FlatNet:
    """The students' and experts'."""
    return FlatNet(open_net(f"convnet{DEPTH}", SHAPE, N_CLASSES, width=WIDTH, seed=0).to(dtype))


def open_step(who: str, folder: Path, images: Tensor, labels: Tensor, n_steps: int) -> Step:
    """An iteration of "peer", or of one of our gradients."""
    return theirs(folder, images, labels, n_steps) if who == "peer" else ours(who, images, labels, n_steps)


def ours(gradient: str, images: Tensor, labels: Tensor, n_steps: int) -> Step:
    """As `condense.images.trajectory_matching` updates its images."""
    variables = Variables({"pixels": images}, {"pixels": IMAGE_RATE}, "sgd")
    loss = inner_loss(net(images.dtype), labels, [None] * n_steps, "none", 0)
    step_size = torch.tensor(STEP_SIZE)

    def step(start: Tensor, end: Tensor) -> float:
        target = Target(n_steps, end, (start - end).square().sum())
        found = MATCHINGS[gradient](loss, start, (variables["pixels"],), step_size, n_steps, [target], 0.0)
        variables.update({"pixels": found.data[0]})
        return float(found.loss)

    return step


def theirs(folder: Path, images: Tensor, labels: Tensor, n_steps: int) -> Step:
    """The lines of `distill.py` from the student's opening to the images' update."""
    source = (folder / "distill.py").read_text()
    begin, end = source.index("        student_net = get_network("), source.index('        wandb.log({"Grand_Loss"')
    code = compile(textwrap.dedent(source[begin:end]), str(folder / "distill.py"), "exec")
    sys.path.insert(0, str(folder))
    networks, reparam = importlib.import_module("networks"), importlib.import_module("reparam_module")
    synthetic = images.clone().requires_grad_()
    rate = torch.tensor(STEP_SIZE, requires_grad=True)
    sizes = net(images.dtype)

    def get_network(*_: object, **__: object) -> torch.nn.Module:
        return networks.ConvNet(3, N_CLASSES, WIDTH, DEPTH, "relu", "instancenorm", "avgpooling", SHAPE[1:])

    names: dict[str, Any] = {
        "torch": torch, "np": np, "get_network": get_network, "ReparamModule": reparam.ReparamModule, "channel": 3,
        "num_classes": N_CLASSES, "im_size": SHAPE[1:], "image_syn": synthetic, "label_syn": labels, "syn_lr": rate,
        "criterion": torch.nn.CrossEntropyLoss(),
        "optimizer_img": torch.optim.SGD([synthetic], lr=IMAGE_RATE, momentum=0.5),
        "optimizer_lr": torch.optim.SGD([rate], lr=0.0, momentum=0.5),
        "args": SimpleNamespace(
            model="ConvNet", device="cpu", distributed=False, load_all=True, max_start_epoch=1, expert_epochs=1,
            syn_steps=n_steps, batch_syn=len(images), texture=False, dsa=False, no_aug=True,
        ),
    }  # fmt: skip

    def step(start: Tensor, end: Tensor) -> float:
        names["buffer"] = [[list(sizes.parts(one).values()) for one in (start, end)]]
        with contextlib.redirect_stdout(sys.stderr):
            exec(code, names)
        return names["grand_loss"].item()

    return step


if __name__ == "__main__":
    sys.exit(main())
