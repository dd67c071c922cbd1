"""Keep what a teacher gives to every token of every trace: a compact dataset that students read instead of a teacher.

The forecast of its size is logged, and held against a bound, before the teacher computes anything.
"""

import hashlib
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.backends.transformers_models import Example, TemplateError, encode, tokenizer_hash
from datagen.contracts.dataset import content_hash
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.home import home
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection, Trace
from datagen.contracts.stage import Run, Stage, load_method, locked, main
from datagen.signals import _ledger, _local

if TYPE_CHECKING:
    from datagen.contracts.signal_columns import SignalRow

SOURCES = {"local": _local, "openai_api": _ledger, "vllm_server": _ledger}
ROW_BYTES = 96  # of a trace beside its positions: id, places, its share of what is not an array

log = logging.getLogger("datagen.stages.teacher_signals")  # under `python -m` the module bears another name


class Config(Params):
    """In which form, and how large the dataset may become.

    A trace of more than `max_tokens`, prompt included, is dropped, never cut.
    """

    method: str = "topk"
    backend: str = "local"
    max_size_gb: float = Field(default=10.0, gt=0)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's, the method's and the source's Config."""
    name, backend = section.get("method", "topk"), section.get("backend", "local")
    method = load_method("datagen.signals", name)
    if backend not in SOURCES:
        raise ParamsError(f"backend: no {backend!r} for teacher signals; there are {', '.join(SOURCES)}")
    if SOURCES[backend] is _ledger and name != "topk":
        raise ParamsError(
            f"method: {name} draws from the whole distribution, and a server ({backend}) gives the likeliest tokens "
            "alone; take topk, or backend local with the teacher's weights"
        )
    return validate(section, Config, InputParams, method.Config, SOURCES[backend].Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of TokenSignals; go on where an earlier run was killed."""
    config, bound = run.params[Config], run.params[InputParams].max_rejected_share
    module, source = load_method("datagen.signals", config.method), SOURCES[config.backend]
    method_config, source_config = run.params[module.Config], run.params[source.Config]
    traces = run.inputs["traces"]
    rows = Rows(traces, Trace, run.name, run.params[InputParams])
    teacher = source.Teacher(source_config)
    layout = module.layout(method_config, teacher.vocabulary)

    from datagen.contracts.tensors import SHARD_ROWS, TokenSignalsWriter

    def prepare(row: Trace | Rejection) -> "Example | Rejection":
        return _prepare(row, teacher, run.name)

    n_tokens, n_traces, rejected = 0, 0, list[Rejection]()
    for row in rows:
        if isinstance(one := prepare(row), Rejection):
            rejected.append(one)
        else:
            n_traces += 1
            n_tokens += one.n_completion_tokens
    _check_usable(traces, rejected, len(rows), bound)
    forecast = n_tokens * layout.max_bytes_a_token + n_traces * ROW_BYTES
    log.info(
        "%s: %d tokens of %d traces, at most %d bytes a token and %.1f MB in all",
        run.name, n_tokens, n_traces, layout.max_bytes_a_token, forecast / 1e6,
    )  # fmt: skip
    if forecast > config.max_size_gb * 1e9:
        raise ParamsError(
            f"max_size_gb: {n_tokens} tokens may take {forecast / 1e9:.3g} GB, the bound is {config.max_size_gb:g}; "
            "raise it, keep less of a token (k, n_draws), or give fewer traces"
        )

    params = run.params.values()
    facts = {
        "stage": run.name,
        "method": config.method,
        "params": params,
        **made_of(run.inputs, of_asked(run.params.values(), "teacher")),
        "teacher": dict(teacher.identity),
        "tokenizer": {"sha256": tokenizer_hash(teacher.tokenizer)},
    }
    start, n_found = time.monotonic(), 0
    work = home() / "signals" / _work_key(facts, module)
    with locked(work), run.progress(len(rows), "traces") as bar:
        if source is _ledger:  # reading costs little, and the ledger may hold other answers by now
            shutil.rmtree(work, ignore_errors=True)
        writer = TokenSignalsWriter(run.out, work, layout, facts)
        n_shards, unusable = 0, list[Rejection]()
        for n_shards, shard in enumerate(_shards(rows, SHARD_ROWS), start=1):
            if writer.has_shard(n_shards - 1):
                n_found += 1
                unusable += writer.rejections(n_shards - 1)
            else:
                signals = getattr(module, config.method)
                made = _compute(shard, [prepare(row) for row in shard], teacher, signals, method_config, run.name)
                unusable += [row for row in made if isinstance(row, Rejection)]
                _check_usable(traces, unusable, len(rows), bound)
                writer.write_shard(n_shards - 1, made)
            bar.advance(len(shard), note=f"{n_found} shards from an earlier run" if n_found else "")
        manifest = writer.close(n_shards)
    run.facts.update(shards=n_shards, shards_found=n_found, forecast_bytes=forecast,
                     tokens_a_second=round(n_tokens / (time.monotonic() - start), 1))  # fmt: skip
    return {name: manifest[name] for name in ("rows", "rejected", "n_tokens", "n_bytes", "bytes_a_token", "error")}


def _prepare(row: Trace | Rejection, teacher: Any, stage: str) -> Example | Rejection:
    """The tokens that a student learns from, or why it cannot."""
    if isinstance(row, Rejection):
        return row
    try:
        example = encode(row, teacher.tokenizer, teacher.end_tokens)
    except TemplateError as error:
        return Rejection(id=row.id, stage=stage, reason="chat_template", detail=str(error))
    if not row.completion.strip() or not example.n_completion_tokens:
        return Rejection(id=row.id, stage=stage, reason="empty_completion", detail="no token to keep a signal of")
    if len(example) > teacher.max_tokens:
        detail = f"{len(example)} tokens, at most {teacher.max_tokens} are taken"
        return Rejection(id=row.id, stage=stage, reason="too_long", detail=detail)
    return example


def _compute(
    rows: Sequence[Trace | Rejection],
    prepared: Sequence[Example | Rejection],
    teacher: Any,
    method: Any,
    config: Params,
    stage: str,
) -> "list[SignalRow | Rejection]":
    """What became of the rows, in their order."""
    import numpy as np

    from datagen.contracts.signal_columns import Signal, SignalRow, hash_tokens

    examples = {
        row.id: (row, one)
        for row, one in zip(rows, prepared, strict=True)
        if isinstance(row, Trace) and isinstance(one, Example)
    }
    made: dict[str, SignalRow | Rejection] = {}
    for trace, signal in teacher.signals(method, config, list(examples.values())):
        example = examples[trace.id][1]
        if not isinstance(signal, Signal):
            reason, detail = signal
            made[trace.id] = Rejection(id=trace.id, stage=stage, reason=reason, detail=detail)
            continue
        n_prompt = example.n_prompt_tokens
        made[trace.id] = SignalRow(
            id=trace.id,
            n_prompt_tokens=n_prompt,
            prompt_hash=hash_tokens(example.tokens[:n_prompt]),
            tokens=np.array(example.tokens[n_prompt:], np.int64),
            signal=signal,
        )
    return [one if isinstance(one, Rejection) else made[row.id] for row, one in zip(rows, prepared, strict=True)]


def _shards(rows: Rows[Trace], size: int) -> Iterator[list[Trace | Rejection]]:
    remaining = iter(rows)
    while shard := list(islice(remaining, size)):
        yield shard


def _check_usable(traces: Path, rejections: Sequence[Rejection], n_rows: int, bound: float) -> None:
    if rejections and (len(rejections) > bound * n_rows or len(rejections) == n_rows):
        first, reasons = rejections[0], Counter(row.reason for row in rejections)
        raise DataError(
            f"{traces}: {len(rejections)} of {n_rows} rows get no signal "
            f"({', '.join(f'{reason} {n}' for reason, n in sorted(reasons.items()))}), "
            f"max_rejected_share is {bound:g}; the first is {first.id!r}: {first.reason}: {first.detail}"
        )


def _work_key(made_of: Mapping[str, Any], method: Any) -> str:
    """Names the folder of unfinished work: all that its shards are made of, our own code and torch included."""
    import torch

    from datagen.backends import scoring, transformers_models
    from datagen.contracts import signal_columns, tensors
    from datagen.signals import _entries

    modules = (method, _entries, _local, _ledger, scoring, transformers_models, signal_columns, tensors)
    files = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    code = {file.name: content_hash(file) for file in files}
    params = {name: value for name, value in made_of["params"].items() if name != "max_size_gb"}
    text = json.dumps([dict(made_of) | {"params": params}, code, torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


STAGE = Stage(
    name="teacher_signals",
    parse=parse,
    inputs={"traces": "dataset of Traces, such as verified ones, .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
