"""Answers to and from a folder of Parquet shards, so that a team shares what it paid for through DVC or the Hub.

    part-00000.parquet    key (hex, a trace's request_key), answer (bytes), checksum (the ledger's), epoch; by key
    manifest.json         epoch asked for, rows, schema, shards by SHA-256

The same answers give the same bytes, whoever exports them and in whatever order they were bought: rows stand in the
order of their keys, and when they came is left out. A shard holds at most `SHARD_ROWS` answers and ends with the one
that passes `SHARD_BYTES`, so memory is bounded for long answers too.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from datagen.backends.ledger import Ledger
from datagen.backends.ledger_file import KEY_BYTES, checksum, explained
from datagen.contracts.dataset import FORMAT_VERSION, content_hash, read_manifest, replace_directory, write_json
from datagen.contracts.errors import BackendError, DataError
from datagen.contracts.stage import check_out, locked
from datagen.ledger_upkeep import opened

SCHEMA = {"key": pl.String, "answer": pl.Binary, "checksum": pl.UInt32, "epoch": pl.Int64}
SHARD_ROWS = 16_384
SHARD_BYTES = 8 * 2**20
ROWS_A_PUT = 2048
_ROW_GROUP = 2048
N_CONFLICTS_NAMED = 20

Row = tuple[bytes, bytes, int, int]
"""key, answer, checksum, epoch."""


@dataclass(kw_only=True)
class Imported:
    """What became of a folder's answers.

    Attributes:
        n_new: added.
        n_known: stood already, the same.
        n_conflicting: another answer stood under the key, and stays.
        conflicts: the first of those keys.
    """

    n_new: int = 0
    n_known: int = 0
    n_conflicting: int = 0
    conflicts: list[str] = field(default_factory=list[str])


def export_answers(path: Path, out: Path, epoch: int | None = None) -> dict[str, Any]:
    """Write the answers of the ledger at `path`, or of one epoch, to the folder `out`; returns its manifest.

    Raises:
        ParamsError: `out` must not be replaced, as with a stage.
        LockedError: another process writes `out`.
        DataError: an answer is damaged; nothing is written.
        BackendError: `out` cannot be written to its end.
    """
    out = check_out(out, [path])
    writing = out.with_name(f".{out.name}.writing")
    with locked(out):
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        try:
            return _write(path, writing, out, epoch)
        except (OSError, PolarsError) as error:
            raise BackendError(f"{out}: {error}; make room or permit writing, then run again") from error
        finally:
            shutil.rmtree(writing, ignore_errors=True)


def import_answers(path: Path, folder: Path) -> Imported:
    """Add the answers of `folder` whose keys the ledger at `path` lacks, once every shard is found whole.

    Raises:
        DataError: a shard is missing, damaged or not named by the manifest, or a row is no answer; nothing is added.
    """
    shards = check_folder(folder)
    imported = Imported()
    with Ledger.open(path) as ledger:
        for shard in shards:
            rows = _read_shard(shard)
            for start in range(0, len(rows), ROWS_A_PUT):
                _add(ledger, rows[start : start + ROWS_A_PUT], imported)
    return imported


def check_folder(folder: Path) -> list[Path]:
    """The shards of an exported folder, each of which was read to its end and is whole."""
    try:
        manifest = read_manifest(folder)
        named: dict[str, str] = dict(manifest["files"])
        record, version, n_expected = manifest["record"], manifest["version"], manifest["rows"]["out"]
    except DataError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}/manifest.json is damaged ({error!r}); export again") from None
    if record != "Answer" or version != FORMAT_VERSION:
        raise DataError(
            f"{folder}: holds {record} of version {version}, not answers of version {FORMAT_VERSION}; name a folder "
            "that `datastill ledger export` wrote"
        )
    found = {file.name for file in folder.glob("*.parquet")}
    if found != named.keys():
        missing, more = sorted(named.keys() - found), sorted(found - named.keys())
        raise DataError(f"{folder}: missing {missing}, not in the manifest {more}; copy the whole folder again")
    n_rows, last = 0, b""
    for name, expected in sorted(named.items()):
        if content_hash(folder / name) != expected:
            raise DataError(f"{folder / name}: damaged, its SHA-256 is not the manifest's; copy the folder again")
        for key, *_ in _read_shard(folder / name):
            if key <= last:
                raise DataError(f"{folder / name}: key {key.hex()} comes twice or out of order; export again")
            n_rows, last = n_rows + 1, key
    if n_rows != n_expected:
        raise DataError(f"{folder}: {n_rows} answers, its manifest says {n_expected}; export again")
    return [folder / name for name in sorted(named)]


def _write(path: Path, writing: Path, out: Path, epoch: int | None) -> dict[str, Any]:
    n_rows = 0
    files: dict[str, str] = {}
    with opened(path) as (connection, _):
        for number, rows in enumerate(_shards(path, connection, epoch)):
            file = writing / f"part-{number:05d}.parquet"
            frame = pl.DataFrame(
                [(key.hex(), answer, stored, of) for key, answer, stored, of in rows], schema=SCHEMA, orient="row"
            )
            frame.write_parquet(file, compression="zstd", row_group_size=_ROW_GROUP)
            with file.open("rb") as stream:
                os.fsync(stream)
            files[file.name] = content_hash(file)
            n_rows += len(rows)
            del rows, frame  # before the next shard is read
    manifest: dict[str, Any] = {
        "format": "datastill",
        "version": FORMAT_VERSION,
        "record": "Answer",
        "stage": "ledger",
        "method": "export",
        "params": {"epoch": epoch},
        "inputs": {},
        "rows": {"in": n_rows, "out": n_rows, "rejected": 0},
        "rejected": {},
        "schema": {name: str(dtype) for name, dtype in SCHEMA.items()},
        "files": files,
    }
    write_json(writing / "manifest.json", manifest)
    replace_directory(writing, out)
    return manifest


def _shards(path: Path, connection: sqlite3.Connection, epoch: int | None) -> Iterator[list[Row]]:
    """Rows by key, a shard at a time; the first is there even where it is empty, so that every folder has a schema."""
    rows = _read_rows(path, connection, epoch, b"")
    yield rows
    while rows:
        after = rows[-1][0]
        del rows
        if rows := _read_rows(path, connection, epoch, after):
            yield rows


def _read_rows(path: Path, connection: sqlite3.Connection, epoch: int | None, after: bytes) -> list[Row]:
    of_epoch = "" if epoch is None else f"AND epoch = {epoch:d}"
    query = f"SELECT key, answer, checksum, epoch FROM answers WHERE key > ? {of_epoch} ORDER BY key LIMIT {SHARD_ROWS}"
    rows: list[Row] = []
    size_bytes = 0
    with explained(path):
        cursor = connection.execute(query, (after,))
        for row in cursor:
            if row[2] != checksum(row[0], row[1]):
                raise DataError(
                    f"ledger {path}: the answer under key {row[0].hex()} is damaged; `datastill ledger verify` names "
                    "every such key"
                )
            rows.append(row)
            size_bytes += len(row[1])
            if size_bytes >= SHARD_BYTES:
                break
        cursor.close()
    return rows


def _read_shard(file: Path) -> list[Row]:
    try:
        frame = pl.read_parquet(file)
    except (PolarsError, OSError) as error:
        raise DataError(f"{file}: cannot be read ({error}); copy the folder again") from None
    if dict(frame.schema) != SCHEMA:
        raise DataError(f"{file}: has columns {dict(frame.schema)}, not {SCHEMA}; export again")
    rows: list[Row] = []
    for number, (text, answer, stored, epoch) in enumerate(frame.iter_rows()):
        try:
            key = bytes.fromhex(text)
        except (TypeError, ValueError):
            key = b""
        if len(key) != KEY_BYTES or not answer or epoch is None or stored != checksum(key, answer):
            raise DataError(f"{file}: row {number}, key {text}: no answer, or another than its checksum says")
        rows.append((key, answer, stored, epoch))
    return rows


def _add(ledger: Ledger, rows: list[Row], imported: Imported) -> None:
    standing = ledger.get_many(key for key, *_ in rows)
    for epoch in sorted({epoch for key, _, _, epoch in rows if key not in standing}):
        new = {key: answer for key, answer, _, of in rows if of == epoch and key not in standing}
        imported.n_new += len(new)
        for key, stands in ledger.put_many(new, epoch).items():
            if stands != new[key]:  # another process was faster
                imported.n_new -= 1
                standing[key] = stands
    for key, answer, _, _ in rows:
        if key in standing and standing[key] != answer:
            imported.n_conflicting += 1
            if len(imported.conflicts) < N_CONFLICTS_NAMED:
                imported.conflicts.append(key.hex())
        elif key in standing:
            imported.n_known += 1
