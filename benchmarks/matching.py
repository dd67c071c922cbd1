"""Trajectory matching's gradient: time of an inner step, memory by the number of steps, and how exact it is.

    python -m benchmarks.matching [--turns N] [--n-threads N] [--out FILE.json]

The adjoint, autograd through all steps (unrolled) and TESLA's approximation have the same students, images and target,
by turns in one process; seconds are the process's CPU time, as other work on the machine does not count there. Memory
is the kernel's peak of a process of its own, the least of three, above what it held before the gradient was asked for,
less the states of the N inner steps, N x P floats: what is left is graph. Errors are the largest relative difference,
in norm, of the loss and the gradients of images and step size: the adjoint's from autograd's in the same float type,
and that of each in float32 from autograd's in float64.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense.images._learning import inner_loss
from condense.images._matching import MATCHINGS, Matched, StepLoss, Target
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from datagen.contracts.dataset import write_json

N_CLASSES = 10
N_STEPS = 20
MEMORY_STEPS = (20, 60, 200)
N_PROCESSES = 3
BARS = {"time": 1.3, "memory": 1.1, "float32": 1e-5, "float64": 1e-10}


@dataclass(frozen=True)
class Case:
    """What the students are and learn from."""

    net: str
    width: int
    shape: tuple[int, int, int]
    n_images: int


CASES = {
    "digits, 10 images": Case("convnet2", 16, (1, 8, 8), 10),
    "digits, 100 images": Case("convnet2", 16, (1, 8, 8), 100),
    "32 x 32, 10 images": Case("convnet3", 32, (3, 32, 32), 10),
}
MEMORY_CASE = "32 x 32, 10 images"


@dataclass(frozen=True)
class Problem:
    """The arguments of a matching, but for the number of steps."""

    loss: StepLoss
    start: Tensor
    pixels: Tensor
    end: Tensor

    def solve(self, gradient: str, n_steps: int) -> Matched:
        """L with its gradient, by one of `MATCHINGS`."""
        target = Target(n_steps, self.end, (self.end - self.start).square().sum())
        step_size = self.start.new_tensor(0.02)
        return MATCHINGS[gradient](self.loss, self.start, (self.pixels,), step_size, n_steps, [target], 0.0)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--n-threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--graph-of", nargs=2, metavar=("GRADIENT", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.n_threads)
    if options.graph_of:
        print(json.dumps(graph_memory(options.graph_of[0], int(options.graph_of[1]))))
        return
    found: dict[str, Any] = {
        "n_threads": options.n_threads,
        "turns": options.turns,
        "bars": BARS,
        "time": {name: times(case, options.turns) for name, case in CASES.items()},
        "memory": {gradient: memory(gradient, options.n_threads) for gradient in ("adjoint", "unrolled")},
        "errors": {name: errors(case) for name, case in CASES.items()},
    }
    print("\n".join(_table(found)))
    if options.out:
        write_json(options.out, found)


def times(case: Case, turns: int) -> dict[str, Any]:
    """Milliseconds of an inner step by gradient, medians of the turns, and their ratios to the unrolled one's."""
    one = problem(case, torch.float32)
    seconds: dict[str, list[float]] = {gradient: [] for gradient in MATCHINGS}
    for turn in range(turns + 1):  # the first warms up
        for gradient, spent in seconds.items():
            start = time.process_time()
            one.solve(gradient, N_STEPS)
            if turn:
                spent.append(time.process_time() - start)
    medians = {gradient: statistics.median(spent) for gradient, spent in seconds.items()}
    return {
        gradient: {"ms_a_step": round(1e3 * median / N_STEPS, 3), "ratio": round(median / medians["unrolled"], 3)}
        for gradient, median in medians.items()
    }


def memory(gradient: str, n_threads: int) -> list[dict[str, Any]]:
    """A row for each number of steps: of three processes the one with the least, as chance in the allocator adds."""
    rows: list[dict[str, Any]] = []
    for n_steps in MEMORY_STEPS:
        command = [sys.executable, "-m", "benchmarks.matching", "--n-threads", str(n_threads)]
        command += ["--graph-of", gradient, str(n_steps)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(N_PROCESSES)]
        rows.append(min((json.loads(run) for run in runs), key=lambda row: row["graph_mb"]))
        rows[-1]["ratio"] = round(rows[-1]["graph_mb"] / rows[0]["graph_mb"], 3)
    return rows


def graph_memory(gradient: str, n_steps: int) -> dict[str, Any]:
    """Of this process: megabytes that the gradient took at its peak, with the states and without."""
    one = problem(CASES[MEMORY_CASE], torch.float32)
    small = Case("convnet1", 1, (3, 4, 4), 2)
    problem(small, torch.float32).solve(gradient, 2)  # libraries that load at the first use
    before = memory_mb("VmRSS")
    one.solve(gradient, n_steps)
    peak, states = memory_mb("VmHWM") - before, n_steps * 4 * len(one.start) / 2**20
    return {"steps": n_steps, "peak_mb": round(peak, 1), "states_mb": round(states, 1),
            "graph_mb": round(peak - states, 1)}  # fmt: skip


def errors(case: Case) -> dict[str, float]:
    """See the module; "float32" and "float64" compare adjoint and unrolled in that type."""
    single, double = (
        {gradient: problem(case, dtype).solve(gradient, N_STEPS) for gradient in ("adjoint", "unrolled")}
        for dtype in (torch.float32, torch.float64)
    )
    return {
        "float32": distance(single["adjoint"], single["unrolled"]),
        "float64": distance(double["adjoint"], double["unrolled"]),
        "float32 adjoint, float64 unrolled": distance(single["adjoint"], double["unrolled"]),
        "float32 unrolled, float64 unrolled": distance(single["unrolled"], double["unrolled"]),
    }


def distance(a: Matched, b: Matched) -> float:
    """The largest relative difference, in norm."""
    pairs = zip((a.loss, *a.data, a.step_size), (b.loss, *b.data, b.step_size), strict=True)
    return max(float((x.double() - y.double()).norm() / y.double().norm()) for x, y in pairs)


def problem(case: Case, dtype: torch.dtype) -> Problem:
    """Students from random weights, noise as images, classes in turn, a target near the start; alike in each type."""
    net = FlatNet(open_net(case.net, case.shape, N_CLASSES, width=case.width, seed=0).to(dtype))
    generator = torch.Generator().manual_seed(0)
    start = net.initial()
    pixels = torch.randn(case.n_images, *case.shape, generator=generator).to(dtype)
    end = start + 0.01 * torch.randn(start.shape, generator=generator).to(dtype)
    labels = torch.arange(case.n_images) % N_CLASSES
    return Problem(inner_loss(net, labels, [None] * max(MEMORY_STEPS), "none", 0), start, pixels, end)


def memory_mb(key: str) -> float:
    """Of this process, by the kernel's name: VmRSS now, VmHWM at its peak."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(f"{key}:")]
    return int(line.split()[1]) / 1024


def _table(found: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, row in found["time"].items():
        cells = (f"{gradient} {one['ms_a_step']} ({one['ratio']})" for gradient, one in row.items())
        lines.append(f"{name}: ms an inner step (to unrolled; bar {BARS['time']}): {', '.join(cells)}")
    for gradient, rows in found["memory"].items():
        cells = (f"{row['steps']} steps {row['graph_mb']} MB ({row['ratio']})" for row in rows)
        lines.append(f"{MEMORY_CASE}: graph of {gradient} (bar {BARS['memory']}): {', '.join(cells)}")
    for name, row in found["errors"].items():
        lines.append(f"{name}: relative errors: {', '.join(f'{key} {value:.1e}' for key, value in row.items())}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
