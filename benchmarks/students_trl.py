"""Distillation steps beside TRL's: its stable DistillationTrainer and its experimental GKDTrainer.

    python -m benchmarks.students_trl [--steps N] [--objectives NAME ...] [--sequences N] [--prompt N] [--completion N]
        [--student LAYERS WIDTH] [--teacher LAYERS WIDTH] [--out FILE.json]

Student and teacher are random Llamas with the vocabulary of the embedded model, in float32 on one thread. TRL's
trainers are made by their own constructors and their own loss methods are called on given completions, so neither
generation nor the data's way is in the figures; activation checkpointing is off in all. Ours is `StudentModel` with
`linear_loss`; one chunk holds all tokens, as in TRL. A step is both models' forward passes and the student's backward.

    loss, gradient  relative difference of the loss, and largest of a gradient over its tensor's largest entry
    time            CPU seconds of a step over TRL's stable trainer, by turns in one process, medians
    memory          peak of a process of its own above what it held before the step, over TRL's stable trainer
    cached          ours on the teacher's 32 likeliest tokens, held in memory; beside it a supervised step
    faults          see `benchmarks.students_trl_faults`
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.students_memory import memory_mb
from datagen.backends.models import EMBEDDED, resolve_model
from datagen.contracts.dataset import write_json
from trainers.batches import Batch
from trainers.language_models import Head, StudentModel, head_of, hidden_states
from trainers.linear_loss import linear_loss
from trainers.objectives import SumCount
from trainers.signals import HiddenStates, Signal, SparseLogProbs
from trainers.weighted import combined

BETA = {"forward_kl": 0.0, "jensen_shannon": 0.5, "reverse_kl": 1.0}
STABLE, GKD, OURS, CACHED, LABELS = "TRL stable", "TRL GKD", "ours", "ours, cached", "ours, supervised"
BARS = {
    "loss": 1e-5,
    "gradient": 1e-5,
    "time online": 1.0,
    "memory online": 1.0,
    "time cached": 0.6,
    "cached over supervised": 1.1,
}
TOP_K = 32


class Arms:
    """Both models, a batch, and a step of each trainer: the mean loss, gradients in the student."""

    def __init__(self, options: argparse.Namespace, objective: str) -> None:
        """Random models and tokens, the same for every arm and process."""
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        self.tokenizer: Any = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED).folder)
        self.objective = objective
        torch.manual_seed(0)
        self.student, self.teacher = (
            LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=len(self.tokenizer), num_hidden_layers=layers, hidden_size=width,
                    intermediate_size=3 * width, num_attention_heads=width // 32, num_key_value_heads=width // 32,
                    tie_word_embeddings=True, initializer_range=0.05, bos_token_id=1, eos_token_id=2,
                )
            )
            for layers, width in (options.student, options.teacher)
        )  # fmt: skip
        self.teacher.eval().requires_grad_(False)
        self.n_prompt = options.prompt
        self.tokens = torch.randint(5, len(self.tokenizer), (options.sequences, options.prompt + options.completion))
        self.n_tokens = options.sequences * options.completion
        learned = torch.zeros_like(self.tokens, dtype=torch.bool)
        learned[:, self.n_prompt - 1 : -1] = True
        self.batch = Batch(self.tokens, torch.ones_like(self.tokens), learned)
        self.folder = tempfile.mkdtemp(prefix="datastill-trl-")

    def step_of(self, arm: str) -> Callable[[], float]:
        """A step, made ready."""
        warnings.simplefilter("ignore")
        return {STABLE: self._stable, GKD: self._gkd, OURS: self._ours, CACHED: self._cached, LABELS: self._labels}[
            arm
        ]()

    def _ours(self) -> Callable[[], float]:
        def signal() -> Signal:
            with torch.no_grad():
                return HiddenStates(hidden_states(self.teacher, self.batch), *head_of(self.teacher))

        return self._step_on(signal)

    def _cached(self) -> Callable[[], float]:
        with torch.no_grad():
            head: Head = head_of(self.teacher)
            states = hidden_states(self.teacher, self.batch)
            found = [self._likeliest(part @ head.weight.T) for part in states.split(64)]
        ids, log_probs, tails = (torch.cat(parts) for parts in zip(*found, strict=True))
        return self._step_on(lambda: SparseLogProbs(ids, log_probs, tails))

    def _labels(self) -> Callable[[], float]:
        return self._step_on(lambda: self.batch.labels, "supervised")

    @staticmethod
    def _likeliest(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_probs = logits.double().log_softmax(dim=-1)
        values, ids = log_probs.topk(TOP_K, dim=-1)
        return ids, values, log_probs.scatter(1, ids, -torch.inf).logsumexp(dim=-1)

    def _step_on(self, signal_of: Callable[[], Signal], objective_name: str = "") -> Callable[[], float]:
        network = StudentModel(self.student, shares_prompts=False)
        objective = combined(objective_name or self.objective)

        def step() -> float:
            signal = signal_of()

            def loss_of(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> SumCount:
                return linear_loss(hidden, weight, signal, objective, bias=bias, chunk_tokens=self.n_tokens)

            part = network(self.batch, loss_of)
            loss = part.sum / part.n
            loss.backward()
            return loss.item()

        return step

    def _stable(self) -> Callable[[], float]:
        from datasets import Dataset

        trl: Any = import_module("trl")  # its names are made when they are asked for

        args = trl.DistillationConfig(
            self.folder, beta=BETA[self.objective], temperature=1.0, use_cpu=True, bf16=False,
            gradient_checkpointing=False, report_to="none", per_device_train_batch_size=len(self.tokens),
        )  # fmt: skip
        trainer: Any = trl.DistillationTrainer(
            self.student, self.teacher, args, Dataset.from_list([{"prompt": "a"}]), processing_class=self.tokenizer
        )
        prompts, completions = self.tokens[:, : self.n_prompt], self.tokens[:, self.n_prompt :]
        inputs = {
            "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts),
            "completion_ids": completions, "completion_mask": torch.ones_like(completions),
            "num_items_in_batch": torch.tensor(float(self.n_tokens)),
        }  # fmt: skip
        self.student.train()

        def step() -> float:
            loss, _, _ = trainer._compute_loss(self.student, inputs, torch.tensor(float(self.n_tokens)))
            loss.backward()
            return loss.item()

        return step

    def _gkd(self) -> Callable[[], float]:
        from datasets import Dataset
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        args = GKDConfig(
            self.folder, beta=BETA[self.objective], temperature=1.0, use_cpu=True, bf16=False,
            gradient_checkpointing=False, report_to="none", per_device_train_batch_size=len(self.tokens),
        )  # fmt: skip
        trainer: Any = GKDTrainer(
            self.student, self.teacher, args,
            train_dataset=Dataset.from_list([{"messages": [{"role": "user", "content": "a"}]}]),
            processing_class=self.tokenizer,
        )  # fmt: skip
        labels = self.tokens.clone()
        labels[:, : self.n_prompt] = -100
        inputs = {"input_ids": self.tokens, "attention_mask": torch.ones_like(self.tokens), "labels": labels}
        self.student.train()

        def step() -> float:
            loss = trainer.compute_loss(self.student, inputs, num_items_in_batch=self.n_tokens)
            loss.backward()
            return loss.item()

        return step


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--objectives", nargs="+", default=list(BETA), choices=list(BETA))
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--completion", type=int, default=128)
    parser.add_argument("--student", type=int, nargs=2, default=[4, 192], metavar=("LAYERS", "WIDTH"))
    parser.add_argument("--teacher", type=int, nargs=2, default=[8, 384], metavar=("LAYERS", "WIDTH"))
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.peak_of:
        step = Arms(options, options.objectives[0]).step_of(options.peak_of)
        base = memory_mb(torch.device("cpu"), peak=False)
        step()
        print(json.dumps(memory_mb(torch.device("cpu"), peak=True) - base))
        return
    from benchmarks.students_trl_faults import faults

    found = faults()
    for row in found:
        print(" | ".join(str(cell) for cell in row.values()))
    rows = [row for objective in options.objectives for row in compare(options, objective)]
    print("".join(f"{column:>18}" for column in rows[0]))
    for row in rows:
        print("".join(f"{cell:>18}" for cell in row.values()))
    reached = figures(rows)
    for name, value in reached.items():
        print(f"{name}: {value:.3g}, bar {BARS[name]}: {'met' if value <= BARS[name] else 'MISSED'}")
    if options.out:
        import trl

        settings = {name: value for name, value in vars(options).items() if name not in ("out", "peak_of")}
        facts = {"benchmark": "students_trl", "trl": trl.__version__, "torch": torch.__version__, "bars": BARS}
        write_json(options.out, facts | settings | {"reached": reached, "rows": rows, "faults": found})


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The worst of each figure that has a bar, over the objectives."""
    of = {arm: [row for row in rows if row["trainer"] == arm] for arm in (OURS, CACHED, LABELS)}
    return {
        "loss": max(row["loss"] for row in of[OURS]),
        "gradient": max(row["gradient"] for row in of[OURS]),
        "time online": max(row["time"] for row in of[OURS]),
        "memory online": max(row["memory"] for row in of[OURS]),
        "time cached": max(row["time"] for row in of[CACHED]),
        "cached over supervised": max(
            one["seconds"] / other["seconds"] for one, other in zip(of[CACHED], of[LABELS], strict=True)
        ),
    }


def compare(options: argparse.Namespace, objective: str) -> list[dict[str, Any]]:
    """A row for each trainer."""
    arms = Arms(options, objective)
    steps = {arm: arms.step_of(arm) for arm in (STABLE, GKD, OURS, CACHED, LABELS)}
    losses: dict[str, float] = {}
    gradients: dict[str, list[Tensor]] = {}
    seconds: dict[str, list[float]] = {arm: [] for arm in steps}
    for _ in range(options.steps + 1):
        for arm, step in steps.items():
            arms.student.zero_grad()
            start = time.process_time()
            losses[arm] = step()
            seconds[arm].append(time.process_time() - start)
            gradients[arm] = [one.grad.clone() for one in arms.student.parameters() if one.grad is not None]
    medians = {arm: statistics.median(taken[1:]) for arm, taken in seconds.items()}  # the first step warms up
    peaks = {arm: _peak_mb(options, objective, arm) for arm in steps}

    def gradient_distance(arm: str) -> float:
        pairs = zip(gradients[arm], gradients[STABLE], strict=True)
        return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)

    return [
        {
            "objective": objective,
            "trainer": arm,
            "seconds": round(medians[arm], 3),
            "memory_mb": round(peaks[arm]),
            "time": round(medians[arm] / medians[STABLE], 3),
            "memory": round(peaks[arm] / peaks[STABLE], 3),
            "loss": float(f"{abs(losses[arm] / losses[STABLE] - 1):.2g}"),
            "gradient": float(f"{gradient_distance(arm):.2g}"),
        }
        for arm in steps
    ]


def _peak_mb(options: argparse.Namespace, objective: str, arm: str) -> float:
    settings: list[str] = []
    for name in ("sequences", "prompt", "completion", "student", "teacher"):
        value = getattr(options, name)
        settings += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    command = [sys.executable, "-m", __spec__.name, *settings, "--objectives", objective, "--peak-of", arm]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{arm} ended with {done.returncode}")
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
