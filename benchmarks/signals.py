"""Teacher signals: bytes a token on disk, errors of what is read back, time, and the bias of top-k's gradient.

    python -m benchmarks.signals --traces DIR [--model NAME] [--student NAME] [--n-traces N] [--out FILE.json]

The teacher scores the first N traces once; every form is made of the same distributions and written with the pipeline's
own writer. Bytes are those of all files of the dataset but the manifest. DistillKit's figure is its README's, of its
format with k = 50, at a vocabulary of its own.

The bias is that of the gradient by the student's logits against full forward KL's, in L1, a token, mean over tokens,
beside the L1 norm of the gradient itself: with the k likeliest renormalised, left as they are, and with one bucket for
the tail. The student is another model, or the teacher at temperature 2 where none is named. `sampled` and `hybrid` have
none (tests/datagen/signals).
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datagen.backends.models import EMBEDDED
from datagen.backends.scoring import completion_log_probs
from datagen.backends.transformers_models import Example, encode, tokenizer_hash
from datagen.contracts.dataset import write_json
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Trace
from datagen.contracts.signal_columns import Signal, SignalRow, hash_tokens, join
from datagen.contracts.tensors import TokenSignals, TokenSignalsWriter
from datagen.signals import _local, hybrid, sampled, topk

FORMS: dict[str, tuple[Any, Any, float | None]] = {
    "topk, k = 32": (topk, topk.Config(k=32), 132),
    "topk, k = 50": (topk, topk.Config(k=50), None),
    "hybrid, 16 + 16": (hybrid, hybrid.Config(k=16, n_draws=16), 80),
    "sampled, 12 draws": (sampled, sampled.Config(n_draws=12), 40),
    "sampled, 12 draws, t = 0.8": (sampled, sampled.Config(n_draws=12, proposal_power=0.8), None),
}
DISTILLKIT = {"form": "DistillKit, k = 50, published", "bytes_a_token": 114}
BIAS_K = 32


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--student", help="a model with the teacher's tokenizer")
    parser.add_argument("--n-traces", type=int, default=60)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    teacher = _local.Teacher(_local.Config(model=options.model))
    student = _local.Teacher(_local.Config(model=options.student)) if options.student else None
    rows = (row for row in Rows(options.traces, Trace, "signals", InputParams()) if isinstance(row, Trace))
    traces = list(islice(rows, options.n_traces))
    examples = [encode(trace, teacher.tokenizer, teacher.end_tokens) for trace in traces]
    seconds: defaultdict[str, float] = defaultdict(float)
    pieces: defaultdict[str, list[list[Signal]]] = defaultdict(lambda: [[] for _ in traces])
    biases: list[Tensor] = []
    for i, (trace, example) in enumerate(zip(traces, examples, strict=True)):
        ours, start = completion_log_probs(teacher.network, [example]), time.process_time()
        theirs = completion_log_probs(student.network, [example]) if student else None
        for _, first, log_probs in ours:
            seconds["teacher"] += time.process_time() - start
            for form, (module, config, _) in FORMS.items():
                start = time.process_time()
                method = getattr(module, config.method)
                pieces[form][i].append(method(config, log_probs, trace.id, first))
                seconds[form] += time.process_time() - start
            logits = next(theirs)[2] if theirs else log_probs / 2
            biases.append(gradient_biases(log_probs, logits.log_softmax(-1), BIAS_K))
            start = time.process_time()
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for form, (module, config, bar) in FORMS.items():
            made = [_row(*one) for one in zip(traces, examples, map(join, pieces[form]), strict=True)]
            layout = module.layout(config, teacher.vocabulary)
            manifest = {"tokenizer": {"sha256": tokenizer_hash(teacher.tokenizer)}, "stage": "benchmark"}
            out = Path(folder) / config.method
            start = time.process_time()
            writer = TokenSignalsWriter(out, Path(folder) / "work", layout, manifest)
            writer.write_shard(0, made)
            written = writer.close(1)
            seconds[form] += time.process_time() - start
            start = time.process_time()
            n_tokens = sum(len(row.tokens) for row in TokenSignals(out, manifest["tokenizer"]["sha256"]))
            table.append(
                {"form": form, "bytes_a_token": written["bytes_a_token"], "bar": bar, "error": written["error"],
                 "at_most_bytes_a_token": layout.max_bytes_a_token,
                 "write_us_a_token": round(seconds[form] / n_tokens * 1e6),
                 "read_us_a_token": round((time.process_time() - start) / n_tokens * 1e6, 1)}
            )  # fmt: skip
    n_tokens = sum(example.n_completion_tokens for example in examples)
    bias = dict(zip(("gradient", "renormalised", "as they are", "tail bucket"), torch.cat(biases).mean(0).tolist(),
                    strict=True))  # fmt: skip
    result = {
        "benchmark": "signals", "model": options.model, "student": options.student or "the teacher at temperature 2",
        "vocabulary": teacher.vocabulary, "n_traces": len(traces), "n_tokens": n_tokens, "forms": table,
        "distillkit": DISTILLKIT, "topk_bias": {"k": BIAS_K} | bias,
        "teacher_us_a_token": round(seconds["teacher"] / n_tokens * 1e6),
    }  # fmt: skip
    _print(result)
    if options.out:
        write_json(options.out, result)


def gradient_biases(p_log: Tensor, q_log: Tensor, k: int) -> Tensor:
    """(N, 4): L1 norm of full forward KL's gradient q - p, and of what three uses of the top k add to it.

    Args:
        p_log: (N, V) the teacher's log-probs.
        q_log: (N, V) the student's.
        k: how many stay.
    """
    p, q = p_log.exp(), q_log.exp()
    head = torch.zeros_like(p, dtype=torch.bool).scatter(-1, p_log.topk(k, dim=-1).indices, True)
    kept = p * head
    tail = (p * ~head).sum(-1, keepdim=True)
    full = q - p
    renormalised = q - kept / (1 - tail)
    as_they_are = (1 - tail) * q - kept
    bucket = torch.where(head, full, q - q * tail / (q * ~head).sum(-1, keepdim=True))
    return torch.stack(
        [full.abs().sum(-1), *((g - full).abs().sum(-1) for g in (renormalised, as_they_are, bucket))], dim=-1
    )


def _row(trace: Trace, example: Example, signal: Signal) -> SignalRow:
    prompt, completion = example.tokens[: example.n_prompt_tokens], example.tokens[example.n_prompt_tokens :]
    return SignalRow(
        id=trace.id,
        n_prompt_tokens=len(prompt),
        prompt_hash=hash_tokens(prompt),
        tokens=np.array(completion, np.int64),
        signal=signal,
    )


def _print(result: dict[str, Any]) -> None:
    write = sys.stdout.write
    write(f"{result['n_tokens']} tokens of {result['n_traces']} traces under {result['model']}, ")
    write(f"V = {result['vocabulary']}; the teacher takes {result['teacher_us_a_token']} us of CPU a token\n\n")
    write(f"{'form':<31}{'bytes a token':>14}{'bar':>6}{'worst case':>12}{'max error: log-prob':>21}{'prob':>10}")
    write(f"{'tail':>10}{'write us':>10}{'read us':>9}\n")
    for one in result["forms"]:
        error = one["error"]
        write(f"{one['form']:<31}{one['bytes_a_token']:>14.1f}{one['bar'] or '':>6}{one['at_most_bytes_a_token']:>12}")
        write(
            f"{error['log_probs']['max']:>21.1e}{error['probabilities']['max']:>10.1e}{error['log_tail']['max']:>10.1e}"
        )
        write(f"{one['write_us_a_token']:>10}{one['read_us_a_token']:>9}\n")
    write(f"{DISTILLKIT['form']:<31}{DISTILLKIT['bytes_a_token']:>14}\n\n")
    bias = result["topk_bias"]
    write(f"top-{bias['k']}'s bias, L1 a token, student: {result['student']}; ")
    write(f"the gradient itself {bias['gradient']:.3f}\n")
    for name in ("renormalised", "as they are", "tail bucket"):
        write(f"  {name:<14}{bias[name]:.4f}\n")


if __name__ == "__main__":
    main()
