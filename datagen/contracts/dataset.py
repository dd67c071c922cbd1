"""Dataset directories: Parquet shards in input order, rejections, a manifest. Written whole or not at all.

    part-00000.parquet    rows; shard i holds what came of input rows [i * BLOCK, (i + 1) * BLOCK)
    NAME.parquet          side tables, such as verdicts
    rejections.parquet    every input row that is not in the output
    manifest.json         schema, counts, params, inputs by hash; no times, hosts or paths

The same input gives the same bytes: one writer, fixed row groups, shards cut at fixed input positions. So rows added
at the end change the last shard, the tables that hold them and the manifest, no more.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import polars as pl

from datagen.contracts.errors import DataError
from datagen.contracts.records import Record, Rejection, to_row

FORMAT_VERSION = 1
BLOCK = 2048  # input rows a shard: small enough to hold, large enough that a million rows make 489 files
_ROW_GROUP = 2048
_PIECE = 256  # rows that become columns at once
_MANIFEST = "manifest.json"


class DatasetWriter:
    """Writes one dataset directory, beside its place until it is complete.

    Call `read` once for each input row and then `write`, `reject` or `add` what became of it. `close` checks that
    rows in = rows out + rejections and renames; leaving the `with` by an exception removes what was written.
    """

    def __init__(
        self,
        out: Path,
        record: type[Record],
        manifest: Mapping[str, Any],
        tables: Mapping[str, type[Record]] | None = None,
    ) -> None:
        """`manifest` is what the stage says of the run; counts, schema and file hashes are added."""
        self.out = out
        self.rows_in = 0
        self._n_inputs = 0
        self.rows_out = 0
        self.reasons: Counter[str] = Counter()
        self._manifest = dict(manifest)
        self._record = record
        self._writing = out.with_name(f".{out.name}.writing")
        shutil.rmtree(self._writing, ignore_errors=True)
        self._writing.mkdir(parents=True)
        self._attached: list[Path] = []
        self._shard: list[dict[str, Any]] = []
        self._pieces: list[pl.DataFrame] = []  # of the shard, before `_shard`: a fifth of the memory of its rows
        self._n_shards = 0
        self._tables = {
            name: _Table(self._writing, name, kind)
            for name, kind in {**(tables or {}), "rejections": Rejection}.items()
        }

    def __enter__(self) -> "DatasetWriter":
        """The writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close after success, remove after an exception."""
        if kind is None:
            self.close()
        else:
            shutil.rmtree(self._writing, ignore_errors=True)

    def read(self, n_rows: int = 1) -> None:
        """Go on to the next input row, which stands for `n_rows` (a prompt for its attempts)."""
        if self._n_inputs and self._n_inputs % BLOCK == 0:
            self._write_shard()
        self._n_inputs += 1
        self.rows_in += n_rows

    def write(self, row: Record) -> None:
        """Keep a row."""
        self._shard.append(to_row(row))
        if len(self._shard) == _PIECE:
            self._pieces.append(_frame(self._shard, self._record))
            self._shard = []
        self.rows_out += 1

    def reject(self, row: Rejection) -> None:
        """Drop a row, with its reason."""
        self._tables["rejections"].add(row)
        self.reasons[row.reason] += 1

    def put(self, row: Record) -> None:
        """Keep the row, or drop it where it is a Rejection."""
        if isinstance(row, Rejection):
            self.reject(row)
        else:
            self.write(row)

    def add(self, table: str, row: Record) -> None:
        """Put a row into a side table."""
        self._tables[table].add(row)

    def attach(self, name: str, content: str | bytes) -> None:
        """Put a file beside the tables, such as a page; the manifest holds its hash."""
        (self._writing / name).write_bytes(content.encode() if isinstance(content, str) else content)
        self._attached.append(self._writing / name)

    def describe(self, **figures: Any) -> None:
        """Add to the manifest what is known only once the rows are written."""
        self._manifest |= figures

    @property
    def rows(self) -> dict[str, int]:
        """Rows in, out and rejected so far."""
        return {"in": self.rows_in, "out": self.rows_out, "rejected": self.reasons.total()}

    def close(self) -> None:
        """Write the rest, check the count, and put the directory in its place."""
        rows = self.rows
        if rows["in"] != rows["out"] + rows["rejected"]:
            raise AssertionError(f"{self.out}: a row was lost: {rows}")
        self._write_shard()
        for table in self._tables.values():
            table.close()
        files = sorted([*self._writing.glob("*.parquet"), *self._attached])
        content = self._manifest | {
            "format": "datastill",
            "version": FORMAT_VERSION,
            "record": self._record.__name__,
            "schema": {name: str(dtype) for name, dtype in self._record.SCHEMA.items()},
            "rows": rows,
            "rejected": dict(sorted(self.reasons.items())),
            "files": {file.name: _sha256(file) for file in files},
        }
        write_json(self._writing / _MANIFEST, content)
        for file in files:
            _sync(file)
        replace_directory(self._writing, self.out)

    def _write_shard(self) -> None:
        pieces = [*self._pieces, _frame(self._shard, self._record)]
        shard = self._writing / f"part-{self._n_shards:05d}.parquet"
        _write_parquet(pl.concat(pieces, rechunk=True), shard, getattr(self._record, "METADATA", None))
        self._shard, self._pieces = [], []
        self._n_shards += 1


class _Table:
    """A side table of any length in one file: pieces of a row group each, joined without holding them."""

    def __init__(self, folder: Path, name: str, record: type[Record]) -> None:
        self._pieces = folder / f".{name}"
        self._pieces.mkdir()
        self._path = folder / f"{name}.parquet"
        self._record = record
        self._rows: list[dict[str, Any]] = []
        self._n_pieces = 0

    def add(self, row: Record) -> None:
        self._rows.append(to_row(row))
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._rows or not self._n_pieces:
            self._flush()
        pieces = pl.scan_parquet(sorted(self._pieces.glob("*.parquet")))
        pieces.sink_parquet(self._path, compression="zstd", row_group_size=_ROW_GROUP, maintain_order=True)
        shutil.rmtree(self._pieces)

    def _flush(self) -> None:
        _write_parquet(_frame(self._rows, self._record), self._pieces / f"{self._n_pieces:08d}.parquet")
        self._rows = []
        self._n_pieces += 1


def is_dataset(path: Path) -> bool:
    """Whether `path` is a directory that a stage wrote; other tools have a manifest.json too."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and cast(dict[str, Any], manifest).get("format") == "datastill"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a dataset directory.

    Raises:
        DataError: no manifest, so the directory was not written by a stage or not to its end.
    """
    try:
        return json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: not a dataset directory (it has no {_MANIFEST}); run the stage that makes it"
        ) from None


def iterate(path: Path, table: str = "part") -> Iterator[dict[str, Any]]:
    """Rows of a dataset directory's shards, or of one of its side tables, in order, a row group in memory at a time."""
    pattern = "part-*.parquet" if table == "part" else f"{table}.parquet"
    for file in sorted(path.glob(pattern)):
        yield from iterate_parquet(file)


def iterate_parquet(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of one Parquet file, a bounded number in memory at a time."""
    for batch in pl.scan_parquet(file).collect_batches(chunk_size=_ROW_GROUP, maintain_order=True):
        yield from batch.iter_rows(named=True)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, of a dataset directory's manifest (which names its files' hashes), or of a folder's files."""
    if path.is_file():
        return _sha256(path)
    if is_dataset(path):
        return _sha256(path / _MANIFEST)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_sha256(file)}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, content: object) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".{path.name}.writing")
    writing.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    _sync(writing)
    os.replace(writing, path)


def replace_directory(writing: Path, out: Path) -> None:
    """Put a finished directory in its place, whatever was there."""
    if out.exists():
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(out, old)
        os.replace(writing, out)
        shutil.rmtree(old)
    else:
        os.replace(writing, out)


def _frame(rows: list[dict[str, Any]], record: type[Record]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=record.SCHEMA, orient="row")


def _write_parquet(frame: pl.DataFrame, path: Path, metadata: dict[str, str] | None = None) -> None:
    """`metadata` is for other readers of the file: a record's METADATA, where it has some."""
    frame.write_parquet(path, compression="zstd", row_group_size=_ROW_GROUP, statistics=True, metadata=metadata)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
