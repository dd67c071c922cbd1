"""SmolLM2 teaches a student of bytes: likelihood matching beside next-token training on equal tokens.

    python -m benchmarks.students_tokenizers [--data FILE.jsonl] [--seeds 0 1 2] [--steps 150] [--out FILE.json]

FILE holds rows with a `text`, by default the narratives of this repository, which are cut into pieces at blanks. The
student reads bytes. It starts as a few layers of SmolLM2-135M-Instruct, evenly spaced, moved to bytes
(`--layers`), or as a small new network (`--width`). It learns a few pieces over many epochs, by their bytes alone
(`next_token`), by how likely SmolLM2 finds their chunks (`likelihood_matching`), or by both. Every arm of a seed has
the same start, pieces, order, steps and rate; a seed deals the texts to learning and judging anew.

bits a byte    of pieces of other texts, after the last step; `best` is the least of the judgements on the way
chunks         that count, of the learned pieces, and the teacher's bits a byte there

Intervals are Student's t over seeds, differences taken seed by seed. What stands in --work is not made again.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.transformers_models import Example
from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.dataset import write_json
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    import torch

    from trainers.objectives import SumCount
    from trainers.teachers.other_tokenizer import LikelihoodTeacher

ARMS = ("next_token", "likelihood_matching", "both")
N_JUDGEMENTS = 6  # on the way, the last one included


@dataclass(frozen=True, slots=True)
class Piece(Example):
    """A piece of text as the student reads it; `id` is the teacher's name for it."""

    id: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """SmolLM2's tokenizer and the student's, pieces by text, and the teacher once it is needed."""

    model: Any
    tokenizer: Any
    student_tokenizer: Any
    texts: list[list[str]]


def main(argv: Sequence[str] | None = None) -> None:
    """Train every arm of every seed, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/raw/narratives/narratives.jsonl"), metavar="FILE")
    parser.add_argument("--work", type=Path, default=Path(".cache/students_tokenizers"), help="folder for what is made")
    parser.add_argument("--arms", nargs="+", default=list(ARMS[:2]), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4, help="pieces a step")
    parser.add_argument("--layers", type=int, default=0, help="of SmolLM2's 30 that the student starts as; 0: new")
    parser.add_argument("--width", type=int, default=128, help="of a new network, of two layers")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--weight", type=float, default=100.0, help="of likelihood matching beside the bytes")
    parser.add_argument("--pieces", type=int, default=24, help="to learn from")
    parser.add_argument("--held-out", type=int, default=32, help="pieces to be judged on")
    parser.add_argument("--piece-bytes", type=int, default=256, help="of a piece, at most")
    parser.add_argument("--biased", choices=("merged", "dropped"), default="merged", help="chunks")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainers.tokenizer_transfer import byte_tokenizer

    torch.set_num_threads(1)
    base = resolve_model(EMBEDDED)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder)
    model: Any = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    rows = [json.loads(line)["text"] for line in options.data.read_text(encoding="utf-8").splitlines()]
    texts = [cut(text, options.piece_bytes) for text in rows]
    parts = Parts(model, tokenizer, byte_tokenizer(tokenizer), [pieces for pieces in texts if pieces])
    told: dict[str, list[dict[str, Any]]] = {arm: [] for arm in options.arms}
    for seed in options.seeds:
        teacher: LikelihoodTeacher | None = None
        for arm in options.arms:
            file = _folder(options, arm, seed) / "figures.json"
            if not file.is_file():
                teacher = teacher or _teacher(options, parts, seed)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, _trained(options, parts, teacher, arm, seed))
            told[arm].append(json.loads(file.read_text()))
            print(f"{arm} {seed}: {told[arm][-1]['bits_per_byte']:.4f} bits a byte", flush=True)
    cells = {arm: cell(arm, told) for arm in options.arms}
    show(cells)
    if options.out:
        settings = {name: value for name, value in vars(options).items() if name not in ("data", "work", "out")}
        result = {"benchmark": "students_tokenizers", "settings": settings, "data": options.data.name}
        write_json(options.out, {**result, "cells": cells, "seeds": told})


def cut(text: str, n_bytes: int) -> list[str]:
    """The text cut at blanks into pieces of at most `n_bytes`, those of less than half of it left out."""
    pieces = [""]
    for word in text.split(" "):
        longer = f"{pieces[-1]} {word}" if pieces[-1] else word
        if pieces[-1] and len(longer.encode()) > n_bytes:
            pieces.append(word)
        else:
            pieces[-1] = longer
    return [piece for piece in pieces if n_bytes // 2 < len(piece.encode()) <= n_bytes]


def dealt(texts: Sequence[Sequence[str]], seed: int, n_learned: int, n_held_out: int) -> tuple[list[str], list[str]]:
    """Pieces to learn from and pieces to be judged on, of different texts."""
    order = list(texts)
    random.Random(derive_seed(seed, "texts")).shuffle(order)
    held_out: list[str] = []
    while len(held_out) < n_held_out:
        held_out += order.pop()
    learned = [piece for pieces in order for piece in pieces][:n_learned]
    return learned, held_out[:n_held_out]


def _example(tokenizer: Any, text: str) -> Example:
    return Example([tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id], 1)


def _pieces(parts: Parts, texts: Sequence[str]) -> list[Piece]:
    return [
        Piece(example.tokens, example.n_prompt_tokens, text)
        for text in texts
        for example in [_example(parts.student_tokenizer, text)]
    ]


def _teacher(options: argparse.Namespace, parts: Parts, seed: int) -> "LikelihoodTeacher":
    """SmolLM2, aligned with the seed's pieces."""
    from trainers.teachers.other_tokenizer import Config, LikelihoodTeacher

    config = Config(teacher=EMBEDDED, biased=options.biased)
    ends = frozenset({parts.tokenizer.eos_token_id})
    teacher = LikelihoodTeacher(parts.model, parts.tokenizer, ends, parts.student_tokenizer, config, {})
    learned, _ = dealt(parts.texts, seed, options.pieces, options.held_out)
    refused = teacher.align({one.id: (one, _example(parts.tokenizer, one.id)) for one in _pieces(parts, learned)})
    if refused:
        raise SystemExit(f"pieces that cannot be compared: {refused}")
    return teacher


def _trained(
    options: argparse.Namespace, parts: Parts, teacher: "LikelihoodTeacher", arm: str, seed: int
) -> dict[str, Any]:
    """Train one student; its figures."""
    from trainers import loop
    from trainers.batches import collate
    from trainers.language_models import StudentModel
    from trainers.linear_loss import linear_loss
    from trainers.objectives import SumCount
    from trainers.objectives.likelihood_matching import likelihood_matching_of_hidden
    from trainers.objectives.supervised import supervised

    learned, held_out = (_pieces(parts, some) for some in dealt(parts.texts, seed, options.pieces, options.held_out))
    student = StudentModel(_start(options, parts, seed))
    curve: dict[int, float] = {}
    before = bits_per_byte(student, held_out)

    def loss(network: "torch.nn.Module", rows: Sequence[Piece], device: "torch.device") -> "SumCount":
        batch = collate(rows).to(device)
        signal = teacher.signal_of([one.id for one in rows], rows) if arm != "next_token" else None

        def loss_of(hidden: Any, weight: Any, bias: Any) -> "SumCount":
            found: list[SumCount] = []
            if arm != "likelihood_matching":
                found.append(linear_loss(hidden, weight, batch.labels, supervised, bias=bias))
            if signal is not None:
                one = likelihood_matching_of_hidden(hidden, weight, signal, bias=bias)
                found.append(SumCount(one.sum * (options.weight if arm == "both" else 1.0), one.n))
            return SumCount(sum((one.sum for one in found[1:]), found[0].sum), found[0].n)

        return network(batch, loss_of)

    def advance(record: Mapping[str, Any]) -> None:
        step = record["step"]
        if step % max(1, options.steps // N_JUDGEMENTS) == 0 or step == options.steps:
            curve[step] = bits_per_byte(student, held_out)
            seconds = time.process_time() - start_s
            print(f"{arm} {seed}: step {step} {curve[step]:.4f} after {seconds:.0f} CPU seconds", flush=True)

    config = loop.Config.model_validate(
        {
            "steps": options.steps, "batch_size": options.batch, "micro_batch_tokens": 1_000_000, "seed": seed,
            "learning_rate": options.rate, "n_threads": 1,
        }
    )  # fmt: skip
    checkpoints = Checkpoints(_folder(options, arm, seed) / "checkpoints")
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    checkpoints.clear()  # a student starts anew, so that every judgement is of its own steps
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    start_s = time.process_time()
    records = loop.train(student, learned, loss, config, checkpoints, advance)
    checkpoints.clear()
    signal = teacher.signal_of([one.id for one in learned], learned) if arm != "next_token" else None
    told: dict[str, Any] = {
        "bits_per_byte": curve[options.steps],
        "best": min(curve.values()),
        "before": before,
        "curve": curve,
        "n_tokens": sum(record["count"] for record in records),
        "n_weights": sum(weight.numel() for weight in student.parameters()),
        "learned_bits_per_byte": bits_per_byte(student, learned),
    }
    if signal is not None:
        n_bytes = sum(len(one.id.encode()) for one in learned)
        told["chunks"] = len(signal.log_probs)
        told["teacher_bits_per_byte"] = -signal.log_probs.sum().item() / math.log(2) / n_bytes
    return told


def _start(options: argparse.Namespace, parts: Parts, seed: int) -> Any:
    """A few layers of SmolLM2 moved to bytes, or a new network."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainers.language_models import keep_layers
    from trainers.tokenizer_transfer import moved

    if options.layers:
        return moved(keep_layers(parts.model, options.layers), parts.tokenizer, parts.student_tokenizer)
    torch.manual_seed(derive_seed(seed, "weights"))
    width = options.width
    config = LlamaConfig(
        vocab_size=len(parts.student_tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True, initializer_range=0.05,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def bits_per_byte(student: "torch.nn.Module", pieces: Sequence[Piece]) -> float:
    """-log2 of the likelihood of pieces with their ends, over their bytes."""
    import torch

    from trainers.batches import collate
    from trainers.linear_loss import linear_loss
    from trainers.objectives.supervised import supervised

    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(pieces), 8):
            batch = collate(pieces[start : start + 8])
            signal = batch.labels
            found = student(
                batch, lambda hidden, weight, bias, s=signal: linear_loss(hidden, weight, s, supervised, bias=bias)
            )
            nats += found.sum.item()
    return nats / math.log(2) / sum(len(piece.id.encode()) for piece in pieces)


def _folder(options: argparse.Namespace, arm: str, seed: int) -> Path:
    names = ["steps", "batch", "layers", "width", "rate", "pieces", "held_out", "piece_bytes", "biased"]
    names += ["weight"] if arm == "both" else []
    return options.work / f"{arm}-{seed}-{options.data.stem}-{'-'.join(str(getattr(options, name)) for name in names)}"


def cell(arm: str, told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """An arm's figures over seeds, and its differences from next-token training."""
    from trainers.comparison_figures import difference, mean_interval

    values = {name: [one[name] for one in told[arm]] for name in ("bits_per_byte", "best", "learned_bits_per_byte")}
    found: dict[str, Any] = {name: mean_interval(each)._asdict() for name, each in values.items()}
    found["n_tokens"] = [one["n_tokens"] for one in told[arm]]
    if "next_token" in told and arm != "next_token":
        for name in ("bits_per_byte", "best"):
            plain = [one[name] for one in told["next_token"]]
            found[f"{name}_over_next_token"] = difference(values[name], plain)._asdict()
    return found


def show(cells: Mapping[str, Mapping[str, Any]]) -> None:
    """A line an arm; intervals in brackets."""
    names = ("bits_per_byte", "bits_per_byte_over_next_token", "best", "best_over_next_token", "learned_bits_per_byte")
    print("".join(f"{name:>32}" for name in ("arm", *names)))
    for arm, found in cells.items():
        shown = [f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" if (v := found.get(n)) else "" for n in names]
        print(f"{arm:>32}" + "".join(f"{one:>32}" for one in shown), flush=True)


if __name__ == "__main__":
    main()
