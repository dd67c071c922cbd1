"""What a ledger holds, whether it is whole, and what leaves it: the reading and pruning behind `datastill ledger`.

The ledger knows keys, answers, epochs and times, no more: a key is a hash, so which model gave an answer is said by the
datasets made of it (`datastill why`), not here. Answers stored by version 1 of the ledger count as epoch 0.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from datagen.backends.claims import Turn
from datagen.backends.ledger_file import checksum, connect, explained, is_damage, turn_of
from datagen.contracts.errors import MissingError

KEYS_A_READ = 1000
ROWS_A_DELETE = 10_000  # a transaction, between which other writers have their turn
MAX_PROBLEMS = 100


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The answers of one `cache_epoch`.

    Attributes:
        epoch: what the requests said.
        n_answers: how many.
        size_bytes: of the answers alone.
        oldest: when the first was stored, Unix seconds by the clock of whoever stored it.
        newest: likewise the last.
    """

    epoch: int
    n_answers: int
    size_bytes: int
    oldest: int
    newest: int


@dataclass(frozen=True, kw_only=True)
class Health:
    """What `verify` found: keys whose answer is damaged or can't be read, and what SQLite says of the file."""

    n_answers: int
    damaged: list[str]
    problems: list[str]

    @property
    def is_whole(self) -> bool:
        """Nothing was found."""
        return not (self.damaged or self.problems)


@contextmanager
def opened(path: Path) -> Iterator[tuple[sqlite3.Connection, Turn]]:
    """An existing ledger; writing needs the turn.

    Raises:
        MissingError: there is none; it is not made.
        DataError: the file is damaged, or not a ledger.
    """
    if not path.exists():
        raise MissingError(f"no ledger at {path}; the first answer makes it, or name another with --ledger")
    with explained(path):
        turn = turn_of(path)
    with closing(turn):
        with explained(path), turn.held():
            connection = connect(path)
        try:
            yield connection, turn
        finally:
            with explained(path), turn.held():  # the last connection to close copies the WAL into the file
                connection.close()


def count_by_epoch(path: Path) -> list[Epoch]:
    """Every epoch that has answers, lowest first."""
    query = """
        SELECT epoch, count(*), sum(length(answer)), min(created), max(created) FROM answers
        GROUP BY epoch ORDER BY epoch
    """
    with opened(path) as (connection, _), explained(path):
        rows = connection.execute(query).fetchall()
    return [
        Epoch(epoch=epoch, n_answers=n, size_bytes=size, oldest=oldest, newest=newest)
        for epoch, n, size, oldest, newest in rows
    ]


def size_on_disk(path: Path) -> int:
    """Bytes of the file and its WAL."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def verify(path: Path) -> Health:
    """Read every answer against its checksum, and let SQLite check the file's structure."""
    damaged: list[str] = []
    problems: list[str] = []
    n_answers = 0
    with opened(path) as (connection, _), explained(path):
        try:
            for keys in _pages_of_keys(connection):
                n_answers += len(keys)
                damaged += [key.hex() for key in keys if not _is_whole(connection, key)]
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            problems.append(f"keys can be listed up to the {n_answers:,}th: {error}")
        try:
            said = connection.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})").fetchall()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            said = [(f"integrity check: {error}",)]
        problems += [line for (line,) in said if line != "ok"]
    return Health(n_answers=n_answers, damaged=damaged, problems=problems)


def prune(path: Path, epoch: int) -> int:
    """Delete the answers of one epoch and give their space back to the file system; returns how many they were.

    A kill leaves a whole ledger with fewer of them; run it again to end it. Other processes may read and write
    meanwhile: they wait for their turn while the file is rewritten, which takes as much free disk as is kept.
    """
    n_deleted = 0
    with opened(path) as (connection, turn), explained(path):
        os.environ.setdefault("SQLITE_TMPDIR", str(path.parent.absolute()))  # the copy may not fit into /tmp
        query = f"DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers WHERE epoch = ? LIMIT {ROWS_A_DELETE})"
        while True:
            with turn.held():
                n = connection.execute(query, (epoch,)).rowcount
            n_deleted += n
            if n < ROWS_A_DELETE:
                break
        with turn.held():
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return n_deleted


def _pages_of_keys(connection: sqlite3.Connection) -> Iterator[list[bytes]]:
    """In order, from the index alone, which is whole more often than the answers."""
    after = b""
    query = "SELECT key FROM answers WHERE key > ? ORDER BY key LIMIT ?"
    while rows := connection.execute(query, (after, KEYS_A_READ)).fetchall():
        yield [key for (key,) in rows]
        after = rows[-1][0]


def _is_whole(connection: sqlite3.Connection, key: bytes) -> bool:
    try:
        row = connection.execute("SELECT answer, checksum FROM answers WHERE key = ?", (key,)).fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return False
        raise
    return row is None or row[1] == checksum(key, row[0])  # None: pruned meanwhile
