"""Memory and time of a distillation step's loss: states times head in chunks, beside whole logits.

    python -m benchmarks.students_memory [--tokens N] [--vocabulary V] [--width H] [--objectives NAME ...]
        [--chunks N ...] [--repeats N] [--device cpu|cuda] [--dtype float32|bfloat16]
        [--runs FILE.jsonl] [--out FILE.json]

Student and teacher are states (N, H) and a head (V, H) each. The plain arm makes both models' logits of all tokens,
then the objective, and takes gradients by autograd; the chunked arm is `trainers.linear_loss`. Both end with the
gradients of the student's states and head. Every run is a process of its own with one thread; arms take turns. Runs are
added to `--runs`, and those that stand there are not made again.

    memory  peak above what the process held before the step (the kernel's VmHWM, or the card's own count), over plain's
    time    CPU seconds of the step (on a card, seconds), medians, over plain's
    loss    relative difference of the two losses; gradient: largest difference, over the largest entry of plain's
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datagen.contracts.dataset import write_json
from trainers.linear_loss import linear_loss
from trainers.signals import HiddenStates, Labelled
from trainers.weighted import combined

BARS = {"memory": 0.12, "time": 1.0, "loss": 1e-5}
N_COMPARED = 1000  # entries of each gradient that are compared


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--objectives", nargs="+", default=["forward_kl"])
    parser.add_argument("--chunks", type=int, nargs="+", default=[0], help="tokens of a chunk; 0 is the default's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--runs", type=Path, help="JSON lines, one a run that is done")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.arm:
        objective, _, chunk = options.arm.partition(":")
        print(json.dumps(step(options, objective, int(chunk) if chunk else None)))
        return
    sizes = {name: getattr(options, name) for name in ("tokens", "vocabulary", "width", "device", "dtype")}
    done = [json.loads(line) for line in options.runs.open()] if options.runs and options.runs.exists() else []
    rows: list[dict[str, Any]] = []
    for objective in options.objectives:
        arms = [objective, *(f"{objective}:{chunk}" for chunk in options.chunks)]
        runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
        for repeat in range(options.repeats):
            for arm in arms:
                key = sizes | {"arm": arm, "repeat": repeat}
                run = next((run for run in done if run.items() >= key.items()), None) or key | _in_a_process(sizes, arm)
                runs[arm].append(run)
                if options.runs and run not in done:
                    with options.runs.open("a") as file:
                        file.write(json.dumps(run) + "\n")
        rows += [_row(arm, runs[arm], runs[arms[0]]) for arm in arms]
    print("".join(f"{column:>18}" for column in rows[0]))
    for row in rows:
        print("".join(f"{cell:>18}" for cell in row.values()))
    chunked = [row for row in rows if row["chunk_tokens"] != "all"]
    for name, bar in BARS.items():
        worst = max(row[name] for row in chunked)
        print(f"{name}: {worst:.3g}, bar {bar}: {'met' if worst <= bar else 'MISSED'}")
    if options.out:
        settings = {name: value for name, value in vars(options).items() if name not in ("out", "arm", "runs")}
        card = torch.cuda.get_device_name() if options.device == "cuda" else None
        facts = {"benchmark": "students_memory", "cpus": os.cpu_count(), "card": card, "torch": torch.__version__}
        write_json(options.out, facts | settings | {"bars": BARS, "rows": rows})


def step(options: argparse.Namespace, objective: str, chunk_tokens: int | None) -> dict[str, Any]:
    """Loss and gradients once, in this process; `chunk_tokens` None makes whole logits."""
    torch.set_num_threads(1)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    n, v, h = options.tokens, options.vocabulary, options.width
    hidden, weight = normal(n, h).requires_grad_(), normal(v, h).mul_(2 * h**-0.5).requires_grad_()
    states = HiddenStates(normal(n, h), normal(v, h).mul_(2 * h**-0.5))
    labels = torch.randint(v, (n,), generator=generator, device=device)
    signal, loss_of = Labelled(labels, states), combined(objective)
    base, start = memory_mb(device, peak=False), _clock(device)
    if chunk_tokens is None:
        mask = torch.ones(n, dtype=torch.bool, device=device)
        with torch.no_grad():
            teacher = functional.linear(states.hidden, states.weight)
        part = loss_of(functional.linear(hidden, weight), Labelled(labels, teacher), mask)
        del teacher
    else:
        part = linear_loss(hidden, weight, signal, loss_of, chunk_tokens=chunk_tokens or None)
    part.sum.backward()
    seconds, peak = _clock(device) - start, memory_mb(device, peak=True)
    gradients = [
        one.grad.flatten()[:: max(1, one.numel() // N_COMPARED)] for one in (hidden, weight) if one.grad is not None
    ]
    return {
        "loss": part.sum.item() / n,
        "memory_mb": peak - base,
        "seconds": seconds,
        "gradients": [one.double().tolist() for one in gradients],
    }


def _in_a_process(sizes: Mapping[str, Any], arm: str) -> dict[str, Any]:
    settings = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", __spec__.name, *settings, "--arm", arm]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{arm} ended with {done.returncode}")
    return json.loads(done.stdout)


def _row(arm: str, runs: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]]) -> dict[str, Any]:
    objective, _, chunk = arm.partition(":")

    def median(of: Sequence[dict[str, Any]], name: str) -> float:
        return statistics.median(run[name] for run in of)

    def gradient_difference() -> float:
        return max(
            max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / max(map(abs, theirs))
            for mine, theirs in zip(runs[0]["gradients"], plain[0]["gradients"], strict=True)
        )

    return {
        "objective": objective,
        "chunk_tokens": {"": "all", "0": "default"}.get(chunk, chunk),
        "memory_mb": round(median(runs, "memory_mb")),
        "seconds": round(median(runs, "seconds"), 2),
        "memory": round(median(runs, "memory_mb") / median(plain, "memory_mb"), 3),
        "time": round(median(runs, "seconds") / median(plain, "seconds"), 3),
        "loss": float(f"{abs(runs[0]['loss'] / plain[0]['loss'] - 1):.2g}"),
        "gradient": float(f"{gradient_difference():.2g}"),
    }


def _clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def memory_mb(device: torch.device, *, peak: bool) -> float:
    """Memory held now, from where on the peak counts; or that peak."""
    if device.type == "cpu" and not peak:
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would hide what the step takes
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    if device.type == "cuda":
        if not peak:
            torch.cuda.reset_peak_memory_stats()
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    name = "VmHWM:" if peak else "VmRSS:"
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 2**10


if __name__ == "__main__":
    main()
