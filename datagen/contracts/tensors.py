"""Array datasets: TokenSignals, what a teacher gives to every token of every trace. docs/signals.md is the format.

    part-00000.safetensors   the arrays of input rows [i * SHARD_ROWS, (i + 1) * SHARD_ROWS), deflated byte by byte
    part-00000.parquet       one row a trace: its id and where its positions stand
    rejections.parquet       every input row that is not in the output
    manifest.json            layout, tokenizer, teacher, counts, size, errors of the quantisation, files by hash

Finished shards wait in a work folder outside the output until the last one is there, so a run that was killed repeats
one shard at most. Equal inputs give equal bytes.

Source: none; the arrays hold what the methods of `datagen.signals` cite.
"""

import json
import os
import shutil
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
from safetensors import safe_open
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]  # PathLike without a parameter

from datagen.contracts.dataset import content_hash, iterate_parquet, read_manifest, replace_directory, write_json
from datagen.contracts.errors import DataError
from datagen.contracts.records import Rejection, to_row
from datagen.contracts.signal_columns import (
    NO_MASS,
    STEP,
    Floats,
    Ints,
    Layout,
    Packed,
    Signal,
    SignalRow,
    deflate,
    from_columns,
    inflate,
    join,
    to_columns,
)

FORMAT_VERSION = 1
SHARD_ROWS = 256  # input rows a shard, and so what a killed run repeats at most
BLOCK_TOKENS = 4096  # positions deflated together, whole traces: what reading one trace unpacks at most, but for it
_BLOCKS_KEPT = 8
_INDEX = {"id": pl.String, "n_prompt_tokens": pl.UInt32, "n_tokens": pl.UInt32, "block": pl.UInt32,
          "start": pl.UInt32, "prompt_hash": pl.UInt64, "prompt_tokens": pl.List(pl.UInt32)}  # fmt: skip


class TokenSignalsWriter:
    """Writes one dataset of TokenSignals, shard by shard, each at once, in any order and over several runs."""

    def __init__(self, out: Path, work: Path, layout: Layout, manifest: Mapping[str, Any]) -> None:
        """`work` keeps finished shards until `close`; whoever names it answers for what the shards are made of."""
        self._out, self._work, self._layout = out, work, layout
        self._manifest = dict(manifest)
        work.mkdir(parents=True, exist_ok=True)

    def has_shard(self, number: int) -> bool:
        """Whether the shard is finished, by this run or an earlier one."""
        return (self._work / f"part-{number:05d}.json").is_file()

    def write_shard(self, number: int, rows: Sequence[SignalRow | Rejection]) -> None:
        """Finish a shard: what became of its input rows, in order."""
        kept = [row for row in rows if isinstance(row, SignalRow)]
        stem = self._work / f"part-{number:05d}"
        arrays: dict[str, Packed] = {}
        index: list[dict[str, Any]] = []
        tally = Tally()
        for block, members in enumerate(_blocks(kept)):
            columns = [to_columns(row, self._layout) for row in members]
            joined = {name: np.concatenate([one[name] for one in columns]) for name in self._layout.columns}
            for name, values in joined.items():
                for plane, packed in enumerate(deflate(values)):
                    arrays[f"{block:05d}.{name}.{plane}"] = np.frombuffer(packed, np.uint8)
            tally.add(join([row.signal for row in members]), from_columns(joined, self._layout)[1])
            start = 0
            for row in members:
                index.append(
                    {"id": row.id, "n_prompt_tokens": row.n_prompt_tokens, "n_tokens": len(row.tokens), "block": block,
                     "start": start, "prompt_hash": row.prompt_hash, "prompt_tokens": row.prompt_tokens}
                )  # fmt: skip
                start += len(row.tokens)
        save_file(arrays, stem.with_suffix(".safetensors"))
        pl.DataFrame(index, schema=_INDEX, orient="row").write_parquet(stem.with_suffix(".parquet"), compression="zstd")
        for suffix in (".safetensors", ".parquet"):
            _sync(stem.with_suffix(suffix))
        rejections = [to_row(row) for row in rows if isinstance(row, Rejection)]
        n_tokens = sum(len(row.tokens) for row in kept)
        facts = {"rows_in": len(rows), "rows_out": len(kept), "n_tokens": n_tokens, "rejections": rejections}
        write_json(stem.with_suffix(".json"), facts | {"error": tally.error})

    def rejections(self, number: int) -> list[Rejection]:
        """Those of a finished shard."""
        return [Rejection(**row) for row in self._facts(number)["rejections"]]

    def close(self, n_shards: int) -> dict[str, Any]:
        """Put all shards, the rejections and the manifest in their place, and empty the work folder.

        Returns:
            The manifest.
        """
        shards = [self._facts(i) for i in range(n_shards)]
        rejections = [row for shard in shards for row in shard["rejections"]]
        rows = {name: sum(shard[f"rows_{name}"] for shard in shards) for name in ("in", "out")}
        rows["rejected"] = len(rejections)
        if rows["in"] != rows["out"] + rows["rejected"]:
            raise AssertionError(f"{self._out}: a row was lost: {rows}")
        writing = self._out.with_name(f".{self._out.name}.writing")
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        for i in range(n_shards):
            for suffix in (".safetensors", ".parquet"):
                shutil.copyfile(self._work / f"part-{i:05d}{suffix}", writing / f"part-{i:05d}{suffix}")
        frame = pl.DataFrame(rejections, schema=Rejection.SCHEMA, orient="row")
        frame.write_parquet(writing / "rejections.parquet", compression="zstd")
        files = sorted(writing.iterdir())
        n_tokens = sum(shard["n_tokens"] for shard in shards)
        n_bytes = sum(file.stat().st_size for file in files)
        content = self._manifest | {
            "format": "datastill",
            "version": FORMAT_VERSION,
            "record": "TokenSignals",
            "layout": asdict(self._layout),
            "columns": self._layout.columns,
            "step": STEP,
            "rows": rows,
            "rejected": dict(sorted(Counter(row["reason"] for row in rejections).items())),
            "n_tokens": n_tokens,
            "n_bytes": n_bytes,
            "bytes_a_token": round(n_bytes / max(n_tokens, 1), 2),
            "error": Tally.total([shard["error"] for shard in shards]),
            "files": {file.name: content_hash(file) for file in files},
        }
        write_json(writing / "manifest.json", content)
        for file in files:
            _sync(file)
        replace_directory(writing, self._out)
        shutil.rmtree(self._work)
        return content

    def _facts(self, number: int) -> dict[str, Any]:
        return json.loads((self._work / f"part-{number:05d}.json").read_text(encoding="utf-8"))


class Tally:
    """How far what is read back lies from what was written, in absolute values of float64."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.error: dict[str, dict[str, float]] = {}

    def add(self, written: Signal, read: Signal) -> None:
        """Compare every value; a log-prob below the code's range counts among the probabilities alone."""
        log_probs = np.concatenate([written.log_probs.ravel(), written.drawn_log_weights])
        found = np.concatenate([read.log_probs.ravel(), read.drawn_log_weights])
        held = log_probs > -NO_MASS * STEP
        tail = written.log_tail > -NO_MASS * STEP
        self._count("log_probs", np.abs(log_probs[held] - found[held]))
        self._count("probabilities", np.abs(np.exp(log_probs) - np.exp(found)))
        self._count("log_tail", np.abs(written.log_tail[tail] - read.log_tail[tail]))

    def _count(self, name: str, errors: Floats) -> None:
        one = {"n": len(errors), "max": float(errors.max(initial=0.0)), "sum": float(errors.sum())}
        self.error[name] = _add(self.error.get(name), one)

    @staticmethod
    def total(errors: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
        """Largest and mean of several tallies."""
        summed: dict[str, dict[str, float]] = {}
        for one in errors:
            summed |= {name: _add(summed.get(name), values) for name, values in one.items()}
        return {
            name: {"max": float(f"{one['max']:.6g}"), "mean": float(f"{one['sum'] / max(one['n'], 1):.6g}")}
            for name, one in summed.items()
        }


class _Place(NamedTuple):
    """Where a trace's positions are: a row of the index."""

    shard: int
    n_prompt_tokens: int
    n_tokens: int
    block: int
    start: int
    prompt_hash: int
    prompt_tokens: list[int] | None


class TokenSignals:
    """Reads a dataset of TokenSignals, a trace at a time in any order; holds the ids, their places and a few blocks."""

    def __init__(self, path: Path, tokenizer_hash: str) -> None:
        """Open it.

        Raises:
            DataError: not such a dataset, of another version, or made with another tokenizer.
        """
        manifest = read_manifest(path)
        if (held := manifest.get("record", "no")) != "TokenSignals":
            raise DataError(f"{path}: holds {held} rows; give what `datastill teacher_signals` wrote")
        if manifest["version"] != FORMAT_VERSION:
            raise DataError(f"{path}: version {manifest['version']}, this reads {FORMAT_VERSION}; write it again")
        if (made := manifest["tokenizer"]["sha256"]) != tokenizer_hash:
            raise DataError(
                f"{path}: its ids are of tokenizer {made[:16]}, the reader's is {tokenizer_hash[:16]}; "
                "a student needs its teacher's tokenizer"
            )
        self.path, self.manifest = path, manifest
        self.layout = Layout(**manifest["layout"])
        self._places: dict[str, _Place] = {}
        for shard, file in enumerate(sorted(path.glob("part-*.parquet"))):
            for row in iterate_parquet(file):
                id = row.pop("id")
                self._places[id] = _Place(shard=shard, **row)
        self._blocks: OrderedDict[tuple[int, int], tuple[Ints, Signal]] = OrderedDict()

    def __len__(self) -> int:
        """Number of traces."""
        return len(self._places)

    def __contains__(self, id: object) -> bool:
        """Whether a trace has a signal."""
        return id in self._places

    def __iter__(self) -> Iterator[SignalRow]:
        """Every trace, in input order."""
        return map(self.__getitem__, self._places)

    def __getitem__(self, id: str) -> SignalRow:
        """One trace's tokens and signal.

        Raises:
            DataError: it has none.
        """
        if id not in self._places:
            raise DataError(f"{self.path}: no signal of trace {id!r}; {self.path / 'rejections.parquet'} may say why")
        place = self._places[id]
        tokens, signal = self._block(place.shard, place.block)
        here = slice(place.start, place.start + place.n_tokens)
        return SignalRow(
            id=id,
            n_prompt_tokens=place.n_prompt_tokens,
            prompt_hash=place.prompt_hash,
            tokens=tokens[here],
            signal=signal[here],
            prompt_tokens=place.prompt_tokens,
        )

    def _block(self, shard: int, block: int) -> tuple[Ints, Signal]:
        if (shard, block) in self._blocks:
            self._blocks.move_to_end((shard, block))
            return self._blocks[shard, block]
        columns: dict[str, Packed] = {}
        with cast(Any, safe_open(self.path / f"part-{shard:05d}.safetensors", framework="numpy")) as file:
            for name, kind in self.layout.columns.items():
                n_planes = np.dtype(kind).itemsize
                planes = [file.get_tensor(f"{block:05d}.{name}.{plane}").tobytes() for plane in range(n_planes)]
                columns[name] = inflate(planes, kind)
        self._blocks[shard, block] = from_columns(columns, self.layout)
        if len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[shard, block]


def _blocks(rows: Sequence[SignalRow]) -> Iterator[list[SignalRow]]:
    """Whole rows, in order, of BLOCK_TOKENS positions or a little more."""
    block: list[SignalRow] = []
    n_tokens = 0
    for row in rows:
        block.append(row)
        n_tokens += len(row.tokens)
        if n_tokens >= BLOCK_TOKENS:
            yield block
            block, n_tokens = [], 0
    if block:
        yield block


def _add(a: dict[str, float] | None, b: dict[str, float]) -> dict[str, float]:
    if a is None:
        return b
    return {"n": a["n"] + b["n"], "max": max(a["max"], b["max"]), "sum": a["sum"] + b["sum"]}


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
