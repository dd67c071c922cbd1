"""Packed rows beside padded ones: slots that hold tokens, losses of documents, cost of a step.

    python -m benchmarks.students_packing [--model NAME] [--rows N] [--batch N]
        [--micro-batch-tokens N] [--turns N] [--out FILE.json]

Rows are GSM8K's questions and answers, of data/raw, in the model's chat template, `--batch` of them to a step, as the
loop takes them. All on one thread, in float32.

    used       slots that hold tokens over all slots, of all rows' steps: packed, padded, and padded where a step is
               not sorted by length first
    difference largest difference of a document's loss packed and alone, without padding, over its loss alone; of the
               first step's documents
    ratio      CPU seconds of forward and backward of the first step, packed over padded: median over turns
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.students_cached import gsm8k
from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import Example, encode, end_tokens
from datagen.contracts.dataset import write_json
from datagen.contracts.records import Prompt, Trace
from trainers.batches import Batch, arrange, collate, completion_logits, model_inputs
from trainers.loop import Layout, micro_batches

BARS = {"used": 0.95, "difference": 1e-5}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16, help="rows of a step")
    parser.add_argument("--micro-batch-tokens", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = resolve_model(options.model).folder
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    examples = read(options.rows, tokenizer, end_tokens(model, tokenizer))
    steps = [examples[at : at + options.batch] for at in range(0, len(examples), options.batch)]
    found: dict[str, Any] = {
        "bars": BARS,
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "n_tokens": {"shortest": min(map(len, examples)), "longest": max(map(len, examples))},
    }
    measures: dict[str, Callable[[], Any]] = {
        "used": lambda: {
            "packed": used(steps, options.micro_batch_tokens, "packed"),
            "padded": used(steps, options.micro_batch_tokens, "padded"),
            "unsorted": sum(map(len, examples)) / sum(len(step) * max(map(len, step)) for step in steps),
        },
        "difference": lambda: difference(model, steps[0], options.micro_batch_tokens),
        "ratio": lambda: ratio(model, steps[0], options.micro_batch_tokens, options.turns),
    }
    for name, measure in measures.items():
        found[name] = measure()
        print(f"{name:10} {found[name]}", flush=True)
    if options.out:
        write_json(options.out, found)


def read(n_rows: int, tokenizer: Any, ends: frozenset[int]) -> list[Example]:
    """The first rows, in the chat template."""
    traces = [
        Trace(
            id=row["id"],
            prompt=Prompt(id=row["id"], messages=[{"role": "user", "content": row["prompt"]}]),
            completion=row["completion"],
        )
        for row in gsm8k(n_rows)
    ]
    return [encode(trace, tokenizer, ends) for trace in traces]


def used(steps: Sequence[Sequence[Example]], max_tokens: int, layout: Layout) -> float:
    """Share of slots that hold tokens, over all steps."""
    n_tokens = n_slots = 0
    for step in steps:
        for part in micro_batches(step, max_tokens, 1, layout)[0]:
            _, batch = arrange(part, layout)
            n_tokens += int(batch.attention_mask.sum())
            n_slots += batch.tokens.numel()
    return n_tokens / n_slots


def difference(model: Any, step: Sequence[Example], max_tokens: int) -> float:
    """Of a document's loss packed and alone, over that alone: the largest of the step's."""
    largest = 0.0
    with torch.no_grad():
        for part in micro_batches(step, max_tokens, 1, "packed")[0]:
            arranged, batch = arrange(part, "packed")
            each = nats(model, batch).split([example.n_completion_tokens for example in arranged])
            for example, found in zip(arranged, each, strict=True):
                alone = nats(model, collate([example])).sum().item()
                largest = max(largest, abs(found.sum().item() - alone) / alone)
    return largest


def nats(model: Any, batch: Batch) -> torch.Tensor:
    """(N,) of the learned tokens."""
    logits = completion_logits(model, batch).double()
    return torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")


def ratio(model: Any, step: Sequence[Example], max_tokens: int, turns: int) -> float:
    """CPU seconds of a step packed over those of it padded, the prompt's shared start read with each; in turns."""
    found: list[float] = []
    for turn in range(turns):
        layouts: list[Layout] = ["packed", "padded"] if turn % 2 else ["padded", "packed"]
        seconds: dict[str, float] = {}
        for layout in layouts:
            start = time.process_time()
            for part in micro_batches(step, max_tokens, 1, layout)[0]:
                _, batch = arrange(part, layout)
                logits = model(**model_inputs(batch), logits_to_keep=batch.learned).logits
                torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum").backward()
            model.zero_grad()
            seconds[layout] = time.process_time() - start
        found.append(seconds["packed"] / seconds["padded"])
    return statistics.median(found)


if __name__ == "__main__":
    main()
