"""The ledger: every answer ever paid for, kept so that none is bought twice.

One SQLite file in WAL mode with `synchronous=FULL`. A put returns after the commit that holds it is on disk; one thread
commits for all writers, everything that waits at once, so 64 writers share a sync. The key is the SHA-256 of the
canonical JSON of a request and the first answer stored under a key stays. Values are opaque bytes: the ledger adds
nothing to them, so it holds no secret that its caller didn't hand it.

Several processes may use one ledger on a local disk (WAL needs shared memory). They commit by turns, since SQLite's own
retries sleep up to 100 ms, and SQLite before 3.51.3 can lose a commit that races with two checkpoints
(https://sqlite.org/wal.html#walresetbug). Who is asking for what is in `claims`. Open a ledger after forking, not
before: a forked child would share its parent's connections and locks.

Beside `ledger.sqlite` lie SQLite's `-wal` and `-shm`, and `-turn` and `-claims`, which are empty.
"""

import asyncio
import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from datagen.backends.claims import Claims, Turn
from datagen.contracts.errors import BackendError, DataError
from datagen.contracts.home import home

APPLICATION_ID = 0x44535431  # "DST1": tells a ledger from any other SQLite file
SCHEMA_VERSION = 1
KEY_BYTES = 32
ROWS_A_READ = 1000  # SQLite allows a statement 32,766 variables
CHECKPOINT_PAGES = 8192  # 32 MiB of WAL: checkpoints sync too, and rewrite index pages that most commits touch again
BUSY_TIMEOUT_S = 60.0  # only foreign programs, such as the sqlite3 shell, can make us wait inside SQLite
POLL_S = 0.05  # between two looks at what another process is asking for
SCHEMA = f"""
    PRAGMA application_id={APPLICATION_ID};
    PRAGMA user_version={SCHEMA_VERSION};
    CREATE TABLE answers (
        key BLOB NOT NULL PRIMARY KEY,
        answer BLOB NOT NULL,
        checksum INTEGER NOT NULL,  -- CRC-32 of key and answer
        created INTEGER NOT NULL  -- Unix seconds
    );
    PRAGMA journal_mode=WAL;
"""


def ledger_path() -> Path:
    """The ledger that stages share."""
    return home() / "ledger.sqlite"


def request_key(fields: Mapping[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON of `fields`: sorted keys, UTF-8, no white space. 1 and 1.0 are different.

    Raises:
        ValueError: a number is NaN or infinite, or a string has no UTF-8 form.
        TypeError: a value has no JSON form.
    """
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).digest()


@dataclass(frozen=True)
class Claimed:
    """What became of the keys one wanted: each is in exactly one of the three, in the order asked."""

    granted: list[bytes]
    """Ask the teacher for these, then put the answer or release the key."""
    answered: dict[bytes, bytes]
    taken: list[bytes]
    """Being asked for by another holder: wait for these."""


class _Group:
    """Answers that share a transaction, and what all who wait for it wait on."""

    def __init__(self):
        self.answers: dict[bytes, bytes] = {}
        self.stored: Future[dict[bytes, bytes]] = Future()
        self._in_loops: dict[asyncio.AbstractEventLoop, asyncio.Future[dict[bytes, bytes]]] = {}

    def stored_in(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[dict[bytes, bytes]]:
        """`stored` for a task of `loop`: one wake-up for all its tasks, and cancelling one leaves the others."""
        if loop not in self._in_loops:
            self._in_loops[loop] = asyncio.wrap_future(self.stored, loop=loop)
        return asyncio.shield(self._in_loops[loop])


class Ledger:
    """An open ledger. Every method may be called from any thread; raises BackendError or DataError with the remedy."""

    def __init__(self, path: Path, turn: Turn, writer: sqlite3.Connection, reader: sqlite3.Connection, claims: Claims):
        self.path = path
        self._turn = turn
        self._writer = writer
        self._reader = reader
        self._reading = threading.Lock()
        self._claims = claims
        self._group = _Group()  # the next to be committed
        self._committing: dict[bytes, bytes] = {}
        self._arrival = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._commit_groups, name="ledger", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the ledger at `path`; a missing one is created.

        Raises:
            DataError: the file is damaged, or not a ledger.
            BackendError: the folder can't be written.
        """
        with _explained(path), ExitStack() as on_failure:
            path.parent.mkdir(parents=True, exist_ok=True)
            turn = Turn(path.with_name(f"{path.name}-turn"))
            on_failure.callback(turn.close)
            with turn.held():
                if not path.exists():
                    _create(path)
                writer, reader = _connect(path), _connect(path)
            claims = Claims(path.with_name(f"{path.name}-claims"))
            on_failure.pop_all()
        return cls(path, turn, writer, reader, claims)

    def close(self) -> None:
        """Commit what waits, drop every claim, and close; a second call does nothing."""
        with self._arrival:
            if self._closed:
                return
            self._closed = True
            self._arrival.notify()
        self._thread.join()
        self._claims.close()
        with self._turn.held():  # the last connection to close copies the WAL into the file
            self._reader.close()
            self._writer.close()
        self._turn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._read("SELECT count(*) FROM answers")[0][0]

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The answers of those keys that have one."""
        keys = list(keys)
        answers: dict[bytes, bytes] = {}
        for start in range(0, len(keys), ROWS_A_READ):
            batch = keys[start : start + ROWS_A_READ]
            marks = ",".join("?" * len(batch))
            rows = self._read(f"SELECT key, answer, checksum FROM answers WHERE key IN ({marks})", batch)
            answers.update(self._checked(*row) for row in rows)
        return answers

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, answer) in the order stored, with rows that arrive meanwhile; memory is that of one page.

        No transaction stays open between pages, so that a slow reader doesn't keep the WAL from being copied.
        """
        rowid = 0
        page = "SELECT key, answer, checksum, rowid FROM answers WHERE rowid > ? ORDER BY rowid LIMIT ?"
        while rows := self._read(page, (rowid, ROWS_A_READ)):
            rowid = rows[-1][3]
            for key, answer, checksum, _ in rows:
                yield self._checked(key, answer, checksum)

    def put(self, key: bytes, answer: bytes) -> bytes:
        """Store one answer; returns, once it is on disk, the answer that stands under `key`: the first one stored."""
        return self.put_many({key: answer})[key]

    def put_many(self, answers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Store all or none, in one transaction; otherwise as `put`.

        Raises:
            ValueError: an answer is empty, or a key isn't one of `request_key`.
        """
        if not answers:
            return {}
        stored = self._join(answers).stored.result()
        return {key: stored[key] for key in answers}

    async def aput(self, key: bytes, answer: bytes) -> bytes:
        """`put` for asyncio. The answer is stored even where the waiting task is cancelled: it is paid."""
        return (await self._join({key: answer}).stored_in(asyncio.get_running_loop()))[key]

    def claim(self, keys: Iterable[bytes]) -> Claimed:
        """Reserve the unanswered keys that nobody else has claimed, before asking a teacher.

        It never waits: for keys that are taken, sleep `POLL_S` and claim again; another process may be waiting for
        what one holds meanwhile. A claim ends with the put of its answer, with `release`, and with its owner's close
        or death. A key claimed through this same ledger counts as taken.
        """
        keys = list(dict.fromkeys(keys))
        with _explained(self.path):
            granted = self._claims.claim(keys)
            answered = self.get_many(keys)  # after claiming: an earlier owner stores before it lets go
            self._claims.release(granted & answered.keys())
        asked = [key for key in keys if key not in answered]
        return Claimed(
            granted=[key for key in asked if key in granted],
            answered=answered,
            taken=[key for key in asked if key not in granted],
        )

    def release(self, keys: Iterable[bytes]) -> None:
        """Let others ask for these. One whose answer is on its way to the disk stays claimed until it is there."""
        with self._arrival:
            storing = self._group.answers.keys() | self._committing.keys()
        with _explained(self.path):
            self._claims.release(set(keys) - storing)

    def _join(self, answers: Mapping[bytes, bytes]) -> "_Group":
        for key, answer in answers.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"a ledger key has {KEY_BYTES} bytes, not {len(key)}; make it with request_key")
            if not answer:
                raise ValueError(f"empty answer for {key.hex()}; the ledger keeps answers only: release the key")
        with self._arrival:
            if self._closed:
                raise ValueError(f"ledger {self.path} is closed")
            for key, answer in answers.items():
                self._group.answers.setdefault(key, answer)
            self._arrival.notify()
            return self._group

    def _commit_groups(self) -> None:
        while True:
            with self._arrival:
                self._arrival.wait_for(lambda: self._group.answers or self._closed)
                group, self._group = self._group, _Group()
                self._committing = group.answers
            if not group.answers:
                return
            try:
                stored = self._commit(group.answers)
            except Exception as error:  # whatever it is, it belongs to those who wait
                self._committing = {}
                group.stored.set_exception(error)
            else:
                group.stored.set_result(stored)

    def _commit(self, answers: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Returns what stands under the keys of `answers` afterwards."""
        created = int(time.time())
        rows = [(key, answer, _checksum(key, answer), created) for key, answer in answers.items()]
        insert = "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
        with _explained(self.path):
            with self._turn.held(), self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                n_new = self._writer.executemany(insert, rows).rowcount
            self._claims.release(answers)
        return answers if n_new == len(answers) else self.get_many(answers)

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with _explained(self.path), self._reading:
            return self._reader.execute(query, values).fetchall()

    def _checked(self, key: bytes, answer: bytes, checksum: int) -> tuple[bytes, bytes]:
        if checksum != _checksum(key, answer):
            raise DataError(
                f"ledger {self.path}: the answer under key {key.hex()} is damaged (checksum); restore the file from a "
                f"copy, or delete that row to ask again: DELETE FROM answers WHERE key = x'{key.hex()}'"
            )
        return key, answer


def _checksum(key: bytes, answer: bytes) -> int:
    return zlib.crc32(answer, zlib.crc32(key))


def _create(path: Path) -> None:
    """Make an empty ledger beside `path` and rename it, so that a ledger which exists is whole."""
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists():
        raise DataError(f"ledger {path} is gone but {wal.name} with answers is there; restore it, or remove both")
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found != [APPLICATION_ID, SCHEMA_VERSION]:
        connection.close()
        raise DataError(f"{path} is not a ledger of this version; move it away, or point $DATASTILL_HOME elsewhere")
    return connection


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into an error with the file's name and the remedy."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DataError(
                f"ledger {path} is damaged or not a ledger ({error}); restore it from a copy, or move it away with "
                f"its -wal: `sqlite3 {path.name} .recover` reads what is left"
            ) from error
        raise BackendError(
            f"ledger {path}: {error}; acknowledged answers are safe: make room or permit writing, then run again"
        ) from error
    except OSError as error:
        raise BackendError(f"ledger {path}: {error}; make room or permit writing, then run again") from error
