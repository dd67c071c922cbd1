"""The ledger's file: its columns, how it is made, opened and brought up to date, and what its errors mean.

Version 1 had no epochs. Such a file is brought to version 2 by whoever opens it first, in one transaction; its answers
count as epoch 0, since nothing in it says more.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from datagen.backends.claims import Turn
from datagen.contracts.errors import BackendError, DataError
from datagen.contracts.home import home

APPLICATION_ID = 0x44535431  # "DST1": tells a ledger from any other SQLite file
SCHEMA_VERSION = 2
KEY_BYTES = 32
CHECKPOINT_PAGES = 8192  # 32 MiB of WAL: checkpoints sync too, and rewrite index pages that most commits touch again
BUSY_TIMEOUT_S = 60.0  # only foreign programs, such as the sqlite3 shell, can make us wait inside SQLite
SCHEMA = f"""
    PRAGMA application_id={APPLICATION_ID};
    PRAGMA user_version={SCHEMA_VERSION};
    CREATE TABLE answers (
        key BLOB NOT NULL PRIMARY KEY,
        answer BLOB NOT NULL,
        checksum INTEGER NOT NULL,  -- CRC-32 of key and answer
        created INTEGER NOT NULL,  -- Unix seconds
        epoch INTEGER NOT NULL DEFAULT 0  -- the request's cache_epoch
    );
    PRAGMA journal_mode=WAL;
"""


def ledger_path() -> Path:
    """The ledger that stages share."""
    return home() / "ledger.sqlite"


def turn_of(path: Path) -> Turn:
    """The lock of whoever writes the ledger at `path`."""
    return Turn(path.with_name(f"{path.name}-turn"))


def checksum(key: bytes, answer: bytes) -> int:
    """CRC-32 of the key and then the answer, which every row carries."""
    return zlib.crc32(answer, zlib.crc32(key))


def create(path: Path) -> None:
    """Make an empty ledger beside `path` and rename it, so that a ledger which exists is whole. Needs the turn.

    Raises:
        DataError: answers wait in a WAL whose ledger is gone.
    """
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


def connect(path: Path) -> sqlite3.Connection:
    """Open the ledger at `path`, of whatever version. Needs the turn, as it may write.

    Raises:
        DataError: it is no ledger, or of a version that this program doesn't know.
    """
    wal = path.with_name(f"{path.name}-wal")
    is_complete = not wal.exists() or wal.stat().st_size == 0  # else pages may wait in the WAL
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        if is_complete:
            _check_length(path, connection)
        _bring_up_to_date(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_length(path: Path, connection: sqlite3.Connection) -> None:
    """SQLite itself takes a last page that is cut short as one that ends in zeros."""
    n_pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    size_bytes = path.stat().st_size
    if size_bytes < n_pages * page_bytes:
        raise DataError(
            f"ledger {path} is cut short: {size_bytes} of {n_pages * page_bytes} bytes; restore it from a copy, or "
            f"move it away: `sqlite3 {path.name} .recover` reads what is left"
        )


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise DataError(
            f"{path} is not a ledger: damaged, cut to nothing, or another program's; restore it from a copy, or move "
            "it away, or point $DATASTILL_HOME elsewhere"
        )
    if not 1 <= version <= SCHEMA_VERSION:
        raise DataError(
            f"ledger {path} has version {version}, this datastill knows 1 to {SCHEMA_VERSION}; update datastill, or "
            "point $DATASTILL_HOME elsewhere"
        )
    if version == 1:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ALTER TABLE answers ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into an error with the file's name and the remedy."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise DataError(
                f"ledger {path} is damaged or not a ledger ({error}); restore it from a copy, or move it away with "
                f"its -wal: `sqlite3 {path.name} .recover` reads what is left"
            ) from error
        raise BackendError(
            f"ledger {path}: {error}; acknowledged answers are safe: make room or permit writing, then run again"
        ) from error
    except OSError as error:
        raise BackendError(f"ledger {path}: {error}; make room or permit writing, then run again") from error


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite means that the file's content is wrong, rather than that it can't be reached."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
