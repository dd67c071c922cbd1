"""A step with cached top-32 signals beside a supervised one, and how far stored signals move what equals its teacher.

    python -m benchmarks.students_cached [--model NAME] [--layers N] [--rows N] [--turns N] [--gradient-rows N]
        [--work FOLDER] [--out FILE.json]

Rows are GSM8K's, of data/raw. The teacher writes signals by `teacher_signals method=topk k=32` into `--work`, where
they stay; the student is the teacher with `--layers` of its layers. Both arms take the same steps (reading, forward,
backward, AdamW) of the same rows by `trainers.lm_loss`, one thread, in turns whose order changes.

    ratio     CPU seconds of a step with cached signals over a supervised one's: median over turns, and their range
    reading   CPU seconds of reading the step's signals, over a supervised step's
    gradient  largest entry of forward KL's gradient by the logits at student = teacher: of the same 32 entries in
              memory (float64), and of those from disk
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import end_tokens
from datagen.contracts.dataset import write_json
from datagen.contracts.home import home
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from datagen.contracts.stage import main as run_stage
from datagen.stages.teacher_signals import STAGE as SIGNALS
from trainers.batches import collate
from trainers.language_models import StudentModel, head_of, hidden_states
from trainers.lm_loss import RowsLoss
from trainers.lm_rows import Bounds, LearnedRow, select
from trainers.lm_students import Config, open_student
from trainers.loop import Config as LoopConfig
from trainers.signals import Labelled, SparseLogProbs
from trainers.teachers.cached import CachedTeacher, cached
from trainers.teachers.cached import Config as CachedConfig
from trainers.weighted import combined

BARS = {"ratio": 1.10, "gradient_in_memory": 1e-12, "gradient_from_disk": 5e-4}
K = 32
CPU = torch.device("cpu")
DATA = Path(__file__).parents[1] / "data" / "raw" / "gsm8k"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rows", type=int, default=4, help="of a step")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--gradient-rows", type=int, default=1)
    parser.add_argument("--work", type=Path, default=home() / "students_cached")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    n_rows = max(options.rows, options.gradient_rows)
    file = options.work / f"rows-{n_rows}.jsonl"
    signals = options.work / f"signals-{resolve_model(options.model).revision[:8]}-{n_rows}"
    if not signals.exists():
        options.work.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in gsm8k(n_rows)))
        settings = ["method=topk", f"k={K}", f"model={options.model}"]
        assert run_stage(SIGNALS, ["--traces", str(file), "--out", str(signals), "--set", *settings]) == 0
    found = measure(options, file, signals)
    for name, value in found.items():
        bar = f"  at most {BARS[name]:g}" if name in BARS else ""
        print(f"{name:20} {value if isinstance(value, list | int | str) else format(value, '.4g')}{bar}")
    if options.out:
        write_json(options.out, found)


def gsm8k(n_rows: int) -> list[dict[str, str]]:
    """The first questions with their worked answers."""
    lines = [line for file in sorted(DATA.glob("*.jsonl")) for line in file.read_text().splitlines()]
    rows = [json.loads(line) for line in lines[:n_rows]]
    return [{"id": f"gsm8k-{i}", "prompt": row["question"], "completion": row["answer"]} for i, row in enumerate(rows)]


def measure(options: argparse.Namespace, file: Path, signals: Path) -> dict[str, Any]:
    """All figures."""
    config = Config(student=options.model, student_layers=options.layers)
    _, tokenizer, model = open_student(config, LoopConfig.model_validate({}))
    bounds = Bounds(max_tokens=1024, context=2048, max_rows_per_prompt=1)
    traces = Rows(file, Trace, "students_cached", InputParams())
    rows, _ = select(traces, bounds, tokenizer, end_tokens(model, tokenizer), stage="students_cached")
    teacher = cached(CachedConfig(), tokenizer, CPU, signals=signals)
    assert not teacher.prepare(rows, options.work)
    ratios, reading, supervised = step_times(model, rows[: options.rows], teacher, options.turns)
    in_memory, from_disk = gradients(options.model, rows[: options.gradient_rows], teacher)
    return {
        "model": options.model,
        "layers": options.layers,
        "n_rows": options.rows,
        "n_tokens_learned": sum(row.example.n_completion_tokens for row in rows[: options.rows]),
        "supervised_step_s": statistics.median(supervised),
        "ratio": statistics.median(ratios),
        "ratios": [round(one, 4) for one in sorted(ratios)],
        "reading": statistics.median(reading) / statistics.median(supervised),
        "gradient_in_memory": in_memory,
        "gradient_from_disk": from_disk,
    }


def step_times(
    model: Any, rows: Sequence[LearnedRow], teacher: CachedTeacher, turns: int
) -> tuple[list[float], list[float], list[float]]:
    """Of each turn: the ratio of both arms' CPU seconds, those of reading signals, and those of the supervised arm."""
    student = StudentModel(model.train())
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, fused=True)
    losses = {
        "supervised": RowsLoss(combined("supervised"), None),
        "cached": RowsLoss(combined("forward_kl"), teacher),
    }

    def step(arm: str) -> float:
        start = time.process_time()
        part = losses[arm](student, rows, CPU)
        (part.sum / part.n).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start

    for arm in losses:
        step(arm)  # what is made once: memory, optimiser states, blocks of signals
    ratios: list[float] = []
    reading: list[float] = []
    supervised: list[float] = []
    for turn in range(turns):
        order = list(losses) if turn % 2 else list(losses)[::-1]
        seconds = {arm: step(arm) for arm in order}
        start = time.process_time()
        teacher.signal(rows, collate([row.example for row in rows]))
        reading.append(time.process_time() - start)
        ratios.append(seconds["cached"] / seconds["supervised"])
        supervised.append(seconds["supervised"])
    return ratios, reading, supervised


def gradients(model_name: str, rows: Sequence[LearnedRow], teacher: CachedTeacher) -> tuple[float, float]:
    """Largest entries at student = teacher, in float64: of entries made here, and of those from disk."""
    _, _, model = open_student(Config(student=model_name), LoopConfig.model_validate({}))
    batch = collate([row.example for row in rows])
    with torch.no_grad():
        hidden, head = hidden_states(model.eval(), batch), head_of(model)
        logits = torch.nn.functional.linear(hidden, *head).double()
    log_probs, ids = logits.log_softmax(dim=-1).topk(K)
    tail = torch.log1p(-log_probs.exp().sum(dim=-1))
    entries = SparseLogProbs(ids, log_probs, tail, vocabulary=logits.shape[1])
    largest: list[float] = []
    for signal in (entries, teacher.signal(rows, batch)):
        student = logits.clone().requires_grad_()
        mask = torch.ones(len(logits), dtype=torch.bool)
        combined("forward_kl")(student, Labelled(batch.labels, signal), mask).sum.backward()
        assert student.grad is not None
        largest.append(float(student.grad.abs().max()))
    return largest[0], largest[1]


if __name__ == "__main__":
    main()
