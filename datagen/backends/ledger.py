"""The ledger: every answer ever paid for, kept so that none is bought twice.

One SQLite file in WAL mode with `synchronous=FULL`. A put returns after the commit that holds it is on disk; a commit
holds everything that waits, so 64 writers share a sync. A thread commits for all, but what tasks put their event loop
commits itself while the disk is fast: to hand it over and back takes several times as long as the commit. It does so a
millisecond after the first of them, with all that came meanwhile. The key is the SHA-256 of the canonical JSON of a
request and the first answer stored under a key stays. Values are opaque bytes: the ledger adds nothing to them, so it
holds no secret that its caller didn't hand it.

Several processes may use one ledger on a local disk (WAL needs shared memory). They commit by turns, since SQLite's own
retries sleep up to 100 ms, and SQLite before 3.51.3 can lose a commit that races with two checkpoints
(https://sqlite.org/wal.html#walresetbug). Who is asking for what is in `claims`. Open a ledger after forking, not
before: a forked child would share its parent's connections and locks.

Beside `ledger.sqlite` lie SQLite's `-wal` and `-shm`, and `-turn` and `-claims`, which are empty.
"""

import asyncio
import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

from datagen.backends.claims import Claims, Turn
from datagen.backends.ledger_file import KEY_BYTES, checksum, connect, create, explained, ledger_path, turn_of
from datagen.contracts.errors import DataError

log = logging.getLogger(__name__)

__all__ = ["POLL_S", "Claimed", "Ledger", "ledger_path", "request_key"]

ROWS_A_STATEMENT = 64  # each statement gives Python's lock away, which a busy event loop returns late
ROWS_A_READ = 1000  # SQLite allows a statement 32,766 variables
GATHER_S = 0.001  # in which answers of an event loop join a commit; more would hold up the requests that wait for it
SLOW_COMMIT_S = 0.005  # after one that took longer the thread commits, so that no event loop stands still
STANDSTILL_S = 0.25  # of an event loop with answers to commit, before the thread commits them
POLL_S = 0.05  # between two looks at what another process is asking for
# With ON CONFLICT DO NOTHING instead, SQLite copies each page first, as NOT NULL might end a statement of many rows.
_INSERT = "INSERT OR IGNORE INTO answers (key, answer, checksum, created, epoch) VALUES {values}"


def request_key(fields: Mapping[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON of `fields`: sorted keys, UTF-8, no white space. 1 and 1.0 are different.

    Raises:
        ValueError: a number is NaN or infinite, or a string has no UTF-8 form.
        TypeError: a value has no JSON form.
    """
    return hashlib.sha256(_canonical_json(fields).encode()).digest()


_canonical_json = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode  # made once: json.dumps makes one a call


@dataclass(frozen=True)
class Claimed:
    """What became of the keys one wanted: each is in exactly one of the three, in the order asked."""

    granted: list[bytes]
    """Ask the teacher for these, then put the answer or release the key."""
    answered: dict[bytes, bytes]
    taken: list[bytes]
    """Being asked for by another holder: wait for these."""


class _Group:
    """Answers that share a transaction, and all who wait for it."""

    def __init__(self):
        self.answers: dict[bytes, bytes] = {}
        self.epochs: dict[bytes, int] = {}  # of those whose epoch is not 0
        self.stored: Future[dict[bytes, bytes]] = Future()  # what threads wait for
        self.tasks: dict[asyncio.AbstractEventLoop, list[asyncio.Future[dict[bytes, bytes]]]] = {}

    def end(self, stored: dict[bytes, bytes] | Exception) -> None:
        """Tell all who wait: a wake-up for each loop, not for each task."""
        if isinstance(stored, Exception):
            self.stored.set_exception(stored)
        else:
            self.stored.set_result(stored)
        for loop, tasks in self.tasks.items():
            with suppress(RuntimeError):  # that loop is closed, and its tasks are gone
                loop.call_soon_threadsafe(_wake, tasks, stored)


def _wake(tasks: list[asyncio.Future[dict[bytes, bytes]]], stored: dict[bytes, bytes] | Exception) -> None:
    for task in tasks:
        if task.done():  # cancelled
            continue
        if isinstance(stored, Exception):
            task.set_exception(stored)
        else:
            task.set_result(stored)


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
        self._committing: set[bytes] = set()
        self._last_commit_s = 0.0
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
        with explained(path), ExitStack() as on_failure:
            path.parent.mkdir(parents=True, exist_ok=True)
            turn = turn_of(path)
            on_failure.callback(turn.close)
            with turn.held():
                if not path.exists():
                    create(path)
                writer, reader = connect(path), connect(path)
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

        No transaction stays open between pages, so that a slow reader doesn't keep the WAL from being copied. A prune
        meanwhile numbers the rows anew, and may hide some from it.
        """
        rowid = 0
        page = "SELECT key, answer, checksum, rowid FROM answers WHERE rowid > ? ORDER BY rowid LIMIT ?"
        while rows := self._read(page, (rowid, ROWS_A_READ)):
            rowid = rows[-1][3]
            for key, answer, stored_checksum, _ in rows:
                yield self._checked(key, answer, stored_checksum)

    def put(self, key: bytes, answer: bytes, epoch: int = 0) -> bytes:
        """Store one answer; returns, once it is on disk, the answer that stands under `key`: the first one stored."""
        return self.put_many({key: answer}, epoch)[key]

    def put_many(self, answers: Mapping[bytes, bytes], epoch: int = 0) -> dict[bytes, bytes]:
        """Store all or none, in one transaction; otherwise as `put`.

        Args:
            answers: by key.
            epoch: the requests' `cache_epoch`, by which answers are pruned.

        Raises:
            ValueError: an answer is empty, or a key isn't one of `request_key`.
        """
        if not answers:
            return {}
        with self._arrival:
            group = self._join(answers, epoch)
            self._arrival.notify()
        stored = group.stored.result()
        return {key: stored[key] for key in answers}

    async def aput(self, key: bytes, answer: bytes, epoch: int = 0) -> bytes:
        """`put` for asyncio. The answer is stored even where the waiting task is cancelled: it is paid."""
        return (await self.aput_many({key: answer}, epoch))[key]

    async def aput_many(self, answers: Mapping[bytes, bytes], epoch: int = 0) -> dict[bytes, bytes]:
        """`put_many` for asyncio, otherwise as `aput`."""
        if not answers:
            return {}
        loop = asyncio.get_running_loop()
        task = loop.create_future()
        with self._arrival:
            is_first = not self._group.answers
            group = self._join(answers, epoch)
            group.tasks.setdefault(loop, []).append(task)
            if is_first and self._last_commit_s <= SLOW_COMMIT_S:
                loop.call_later(GATHER_S, partial(self._commit_group, group, wait=False))
            elif is_first:
                self._arrival.notify()
        stored = await task
        return {key: stored[key] for key in answers}

    def claim(self, keys: Iterable[bytes]) -> Claimed:
        """Reserve the unanswered keys that nobody else has claimed, before asking a teacher.

        It never waits: for keys that are taken, sleep `POLL_S` and claim again; another process may be waiting for
        what one holds meanwhile. A claim ends with the put of its answer, with `release`, and with its owner's close
        or death. A key claimed through this same ledger counts as taken.
        """
        keys = list(dict.fromkeys(keys))
        with explained(self.path):
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
            storing = self._group.answers.keys() | self._committing
        with explained(self.path):
            self._claims.release(set(keys) - storing)

    def _join(self, answers: Mapping[bytes, bytes], epoch: int) -> _Group:
        """Add them to the next group; whoever calls holds `_arrival`."""
        for key, answer in answers.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"a ledger key has {KEY_BYTES} bytes, not {len(key)}; make it with request_key")
            if not answer:
                raise ValueError(f"empty answer for {key.hex()}; the ledger keeps answers only: release the key")
        if self._closed:
            raise ValueError(f"ledger {self.path} is closed")
        group = self._group
        if epoch:
            group.epochs |= dict.fromkeys(answers.keys() - group.answers.keys(), epoch)
        for key, answer in answers.items():
            group.answers.setdefault(key, answer)
        return group

    def _commit_groups(self) -> None:
        """The thread's work, until the ledger is closed."""
        while True:
            with self._arrival:
                if not self._group.answers and not self._closed:
                    self._arrival.wait(STANDSTILL_S)
                group = self._group
            if group.answers:
                self._commit_group(group)
            elif self._closed:
                return

    def _commit_group(self, group: _Group, *, wait: bool = True) -> None:
        """Commit the group, unless somebody has begun to, and tell all who wait for it.

        Without `wait`, for an event loop, it is left to the thread where it is not this ledger's turn.
        """
        if group is not self._group:  # after the thread took it, the ledger may be closed
            return
        start = time.monotonic()
        try:
            with explained(self.path), self._turn.held(wait=wait) as is_held:
                with self._arrival:
                    if not is_held:
                        self._arrival.notify()
                        return
                    if group is not self._group:
                        return
                    self._begin(group)
                stored = self._commit(group)
        except Exception as error:  # whatever it is, it belongs to those who wait
            stored = error
        with self._arrival:
            if group is self._group:  # the turn could not be taken
                self._begin(group)
            self._committing -= group.answers.keys()
            self._last_commit_s = time.monotonic() - start
        group.end(stored)
        if isinstance(stored, Exception):
            return
        try:
            self._claims.release(group.answers)  # each gives Python's lock away, so after all are told
        except OSError as error:  # the answers are stored; to others their keys are answered, claimed or not
            log.warning("ledger %s: claims stay until this process ends (%s)", self.path, error)

    def _begin(self, group: _Group) -> None:
        self._group = _Group()
        self._committing |= group.answers.keys()

    def _commit(self, group: _Group) -> dict[bytes, bytes]:
        """Returns what stands under the keys of the group's answers afterwards; needs the turn."""
        answers, epochs, created = group.answers, group.epochs, int(time.time())
        rows = [(key, answer, checksum(key, answer), created, epochs.get(key, 0)) for key, answer in answers.items()]
        batches = [rows[start : start + ROWS_A_STATEMENT] for start in range(0, len(rows), ROWS_A_STATEMENT)]
        with self._writer:
            if len(batches) > 1:  # one statement is a transaction of its own
                self._writer.execute("BEGIN IMMEDIATE")
            n_new = sum(self._insert(batch) for batch in batches)
        return answers if n_new == len(answers) else self.get_many(answers)

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """Returns how many were new."""
        insert = _INSERT.format(values=",".join(["(?, ?, ?, ?, ?)"] * len(rows)))
        return self._writer.execute(insert, list(chain.from_iterable(rows))).rowcount

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with explained(self.path), self._reading:
            return self._reader.execute(query, values).fetchall()

    def _checked(self, key: bytes, answer: bytes, stored_checksum: int) -> tuple[bytes, bytes]:
        if stored_checksum != checksum(key, answer):
            raise DataError(
                f"ledger {self.path}: the answer under key {key.hex()} is damaged (checksum); restore the file from a "
                f"copy, or delete that row to ask again: DELETE FROM answers WHERE key = x'{key.hex()}'"
            )
        return key, answer
