"""Import teacher signals that others published, in DistillKit's format, as a dataset of TokenSignals.

Sequences that were packed into one row, told apart by `attention_mask`, become a row each. Their tokens come with them,
as there are no traces: the first is the prompt, each further one has its signal.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from datagen.contracts.dataset import content_hash, iterate_parquet
from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.home import home
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection
from datagen.contracts.stage import Run, Stage, locked, main

if TYPE_CHECKING:
    from datagen.contracts.signal_columns import SignalRow
    from datagen.signals._distillkit import Compression

_CONFIG = "compression_config.yaml"
_COLUMNS = ("input_ids", "compressed_logprobs", "bytepacked_indices")


class Config(Params):
    """The model, by name, folder or hub name, whose tokenizer the ids are of, and how many rows may be rejected."""

    model: str
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config."""
    return validate(section, Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of TokenSignals; go on where an earlier run was killed."""
    try:
        from datagen.contracts.signal_columns import Layout
        from datagen.contracts.tensors import SHARD_ROWS, TokenSignalsWriter
        from datagen.signals._distillkit import hash_of_tokenizer
    except ModuleNotFoundError as error:
        raise MissingError(f"teacher signals need {error.name}: `pip install 'datastill[lm]'`") from None
    folder = run.inputs["distillkit"]
    config, files = _open(folder)
    facts = {
        "stage": run.name,
        "method": "topk",
        "params": run.params.values(),
        **made_of(run.inputs),
        "compression": config.model_dump(mode="json"),
        "tokenizer": {"sha256": hash_of_tokenizer(run.params[Config].model)},
    }
    work = home() / "signals" / _work_key(facts)
    rows = _rows(files, config, run.name)
    n_shards, n_rows = 0, 0
    first: Rejection | None = None
    reasons: Counter[str] = Counter()
    with locked(work), run.progress(None, "sequences") as bar:
        writer = TokenSignalsWriter(run.out, work, Layout(vocabulary=config.d, k=config.k), facts)
        while shard := list(islice(rows, SHARD_ROWS)):
            if not writer.has_shard(n_shards):
                writer.write_shard(n_shards, shard)
            n_shards += 1
            n_rows += len(shard)
            rejected = [row for row in shard if isinstance(row, Rejection)]
            first = first or next(iter(rejected), None)
            reasons.update(row.reason for row in rejected)
            bar.advance(len(shard))
        _check_usable(folder, first, reasons, n_rows, run.params[Config].max_rejected_share)
        manifest = writer.close(n_shards)
    return {name: manifest[name] for name in ("rows", "rejected", "n_tokens", "n_bytes", "bytes_a_token", "error")}


def _check_usable(folder: Path, first: Rejection | None, reasons: Counter[str], n_rows: int, bound: float) -> None:
    """Raise DataError where too many sequences, or all of them, were rejected; `first` is the first of those."""
    if not n_rows:
        raise DataError(f"{folder}: its Parquet files hold no row")
    if first and (reasons.total() > bound * n_rows or reasons.total() == n_rows):
        raise DataError(
            f"{folder}: {reasons.total()} of {n_rows} sequences get no signal "
            f"({', '.join(f'{reason} {n}' for reason, n in sorted(reasons.items()))}), "
            f"max_rejected_share is {bound:g}; the first is {first.id!r}: {first.reason}: {first.detail}"
        )


def _work_key(made_of: dict[str, Any]) -> str:
    """Names the folder of unfinished work: all that its shards are made of, our own code included.

    The bound on rejections changes no shard: with a higher one, a run that it ended goes on from them.
    """
    from datagen.contracts import signal_columns, tensors
    from datagen.signals import _distillkit

    files = [Path(__file__), *(Path(str(module.__file__)) for module in (_distillkit, signal_columns, tensors))]
    params = {name: value for name, value in made_of["params"].items() if name != "max_rejected_share"}
    text = json.dumps([made_of | {"params": params}, {file.name: content_hash(file) for file in files}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _open(folder: Path) -> "tuple[Compression, list[Path]]":
    """The folder's config and its Parquet files, in the order of their numbers."""
    from datagen.signals._distillkit import Compression

    if not (folder / _CONFIG).is_file():
        raise DataError(f"{folder}: no {_CONFIG}; DistillKit's capture writes it beside the data")
    content = yaml.safe_load((folder / _CONFIG).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise DataError(f"{folder / _CONFIG}: expected a mapping of DistillKit's compression options")
    config = validate({str(name): value for name, value in content.items()}, Compression)[Compression]  # pyright: ignore
    files = sorted(folder.glob("*.parquet"), key=lambda file: (len(file.name), file.name))
    if not files:
        raise DataError(f"{folder}: no .parquet file")
    return config, files


def _rows(files: list[Path], config: "Compression", stage: str) -> "Iterator[SignalRow | Rejection]":
    """Every sequence of every row."""
    for file in files:
        for number, row in enumerate(iterate_parquet(file)):
            id = f"{file.stem}:{number}"
            if missing := [name for name in _COLUMNS if row.get(name) is None]:
                raise DataError(f"{file}: row {number} has no {missing[0]}; DistillKit's older formats are not read")
            try:
                yield from _sequences(id, row, config, stage)
            except ValueError as error:
                yield Rejection(id=id, stage=stage, reason="unreadable", detail=f"{file.name}:{number}: {error}")


def _sequences(id: str, row: Mapping[str, Any], config: "Compression", stage: str) -> "list[SignalRow | Rejection]":
    """What becomes of each sequence in a row.

    Raises:
        ValueError: tokens are beyond the config's `d`, or not each of them but the last has a signal behind it.
    """
    import numpy as np

    from datagen.contracts.signal_columns import SignalRow, hash_tokens
    from datagen.signals._distillkit import read_row

    signal = read_row(row, config)
    tokens = np.array(row["input_ids"], np.int64)
    segments = np.array(row.get("attention_mask") or [1] * len(tokens), np.int64)[: len(tokens)]
    if len(segments) < len(tokens):
        raise ValueError(f"attention_mask of {len(segments)} for {len(tokens)} input_ids")
    used = tokens[segments != 0]
    if used.min(initial=0) < 0 or used.max(initial=0) >= config.d:
        raise ValueError(
            f"input_ids from {used.min()} to {used.max()} where compression_config.yaml says d = {config.d}"
        )
    starts = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(tokens)]
    found: list[SignalRow | Rejection] = []
    for number, (start, end) in enumerate(pairwise(starts)):
        if start == end or segments[start] == 0:
            continue
        own_id = id if len(starts) == 2 else f"{id}.{number}"
        last = end - 1  # a sequence's last token has nothing behind it to be about
        if last == start:
            found.append(Rejection(id=own_id, stage=stage, reason="one_token", detail="no token has a signal"))
            continue
        if last > len(signal):
            raise ValueError(f"signals of {len(signal)} positions, {last} are needed for {len(tokens)} input_ids")
        first = [int(tokens[start])]
        found.append(
            SignalRow(
                id=own_id,
                n_prompt_tokens=1,
                prompt_hash=hash_tokens(first),
                tokens=tokens[start + 1 : last + 1],
                signal=signal[start:last],
                prompt_tokens=first,
            )
        )
    if not found:
        raise ValueError("no token but padding")
    return found


STAGE = Stage(
    name="import_signals",
    parse=parse,
    inputs={"distillkit": f"folder of DistillKit's capture: Parquet files and {_CONFIG}"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
