"""Batches on their way, written down before they are created, so that none is lost or bought twice: a file for each.

A file under `$DATASTILL_HOME/batches/` is on disk before its batch is created, with a token that the batch bears, its
input file and the keys of its requests; the batch's id is added once the server has told it. So whenever a process is
killed, the next one finds what is at the server by the id, or by token or input file where the id never came. The file
goes once all answers are in the ledger. A process holds the files of the batches that it watches by a lock that ends
with it.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from datagen.contracts.errors import BackendError


class Record:
    """The file of one batch, locked by this process until `close` or `remove`.

    Attributes:
        token: what the batch bears in its metadata.
        endpoint: the base_url where it is.
        file_id: of its input.
        keys: of its requests, in order.
        epoch: the requests' `cache_epoch`, which the ledger keeps beside an answer.
        batch_id: None until the server has told it.
    """

    def __init__(self, path: Path, file: BinaryIO, content: dict[str, Any]) -> None:
        self.path = path
        self._file = file
        self.token: str = path.stem
        self.endpoint: str = content["endpoint"]
        self.file_id: str = content["file_id"]
        self.keys = [bytes.fromhex(key) for key in content["keys"]]
        self.epoch: int = content["epoch"]
        self.batch_id: str | None = content.get("batch_id")

    def acknowledge(self, batch_id: str) -> None:
        """Add the batch's id; it is on disk when this returns."""
        with explained(self.path):
            self._file.seek(0, os.SEEK_END)
            self._file.write(f"{json.dumps({'batch_id': batch_id})}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        self.batch_id = batch_id

    def remove(self) -> None:
        """Nothing is outstanding any more."""
        with explained(self.path):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave the batch to whoever wants it next."""
        self._file.close()


class Journal:
    """The files of one endpoint."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self._endpoint = endpoint
        self._keys: dict[Path, frozenset[bytes]] = {}  # of files held by others; a file's keys never change
        self._at_others: dict[Path, tuple[str, frozenset[bytes]]] = {}  # endpoint and keys of files of other endpoints
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, file_id: str, keys: Collection[bytes], epoch: int) -> Record:
        """Put a batch that is about to be created on disk."""
        path = self.folder / f"{secrets.token_hex(16)}.json"
        new = path.with_suffix(".new")
        content = {
            "endpoint": self._endpoint, "file_id": file_id, "epoch": epoch, "keys": [key.hex() for key in keys]
        }  # fmt: skip
        with explained(path):
            file = new.open("xb+")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(f"{json.dumps(content)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
            new.rename(path)
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        return Record(path, file, content)

    def adopt(self, wanted: Collection[bytes] | None = None) -> Iterator[Record]:
        """Every batch of the endpoint that no process watches; where `wanted` is given, those with one of its keys."""
        keys = None if wanted is None else set(wanted)
        for path in sorted(self.folder.glob("*.json")):
            if path in self._at_others:
                continue
            if keys is not None and path in self._keys and keys.isdisjoint(self._keys[path]):
                continue
            record = self._lock(path)
            if record and (keys is None or not keys.isdisjoint(record.keys)):
                yield record
            elif record:
                record.close()

    def elsewhere(self, wanted: Collection[bytes]) -> set[bytes]:
        """Those of the keys that are in a batch which another process watches, as of the last `adopt`."""
        found: set[bytes] = set()
        for path, keys in self._keys.items():
            if not keys.isdisjoint(wanted) and path.exists():
                found |= keys.intersection(wanted)
        return found

    def check_endpoint(self, wanted: Collection[bytes]) -> None:
        """Raise BackendError where a batch of another endpoint has one of the keys, as of the last `adopt`."""
        for path, (endpoint, keys) in self._at_others.items():
            if not keys.isdisjoint(wanted) and path.exists():
                raise BackendError(
                    f"{len(keys.intersection(wanted))} requests are in a batch at {endpoint}, not at {self._endpoint}; "
                    f"set base_url back to fetch it, or remove {path} to buy them again"
                )

    def _lock(self, path: Path) -> Record | None:
        """The record, locked; None where another process has it, it is gone, or it is of another endpoint."""
        with explained(path):
            try:
                file = path.open("rb+")
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_free = True
            except BlockingIOError:
                is_free = False
            content = _read(path, file)
            keys = frozenset(bytes.fromhex(key) for key in content["keys"])
            if content["endpoint"] != self._endpoint:
                self._at_others[path] = (content["endpoint"], keys)
            else:
                self._keys.setdefault(path, keys)
            if is_free and os.fstat(file.fileno()).st_nlink and content["endpoint"] == self._endpoint:
                return Record(path, file, content)
            file.close()
            return None


def _read(path: Path, file: BinaryIO) -> dict[str, Any]:
    """What was written; a last line that a crash cut short is as if it had never been begun."""
    first, *more = file.read().split(b"\n")
    try:
        content = json.loads(first)
    except ValueError:
        raise BackendError(
            f"{path}: is damaged; look at the server for a batch whose metadata says datastill={path.stem}, and "
            "remove the file once there is none, or once its answers may be bought again"
        ) from None
    for line in more:
        with contextlib.suppress(ValueError):
            content |= json.loads(line)
    return content


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise BackendError(f"{path}: {error}; make room or permit writing, then run again") from error
