"""A ledger of version 1, made by SQL as datastill 0.1 made it; oracles: SQL, and real processes, some killed."""

import shutil
import sqlite3
import subprocess
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from datagen.backends.ledger import Ledger
from datagen.contracts.errors import DataError
from tests.ledger_process import answer, command, key, run, start

VERSION_1 = """
    PRAGMA application_id=1146311729;
    PRAGMA user_version=1;
    CREATE TABLE answers (
        key BLOB NOT NULL PRIMARY KEY,
        answer BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        created INTEGER NOT NULL
    );
    PRAGMA journal_mode=WAL;
"""
N_OLD = 300


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """300 answers in a file of version 1."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        rows = [(key(i), answer(i), zlib.crc32(key(i) + answer(i)), 1_700_000_000 + i) for i in range(N_OLD)]
        connection.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    return path


def by_sql(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_a_new_ledger_keeps_the_epoch_of_each_answer(tmp_path: Path):
    """Alone, in a batch, and where a key is put twice, whose first answer and epoch stay; 0 unless said."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.put(key(1), b"one")
        ledger.put(key(2), b"two", 7)
        ledger.put_many({key(2): b"later", key(3): b"three"}, epoch=9)
    found = by_sql(path, "SELECT answer, epoch FROM answers ORDER BY rowid")
    assert found == [(b"one", 0), (b"two", 7), (b"three", 9)]
    assert by_sql(path, "PRAGMA user_version") == [(2,)]


def test_opening_brings_an_old_ledger_up_to_date(old: Path):
    """Every row as it was, epoch 0; the second opening changes nothing."""
    before = by_sql(old, "SELECT * FROM answers ORDER BY rowid")
    with Ledger.open(old) as ledger:
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in range(N_OLD)}
        ledger.put(key(N_OLD), answer(N_OLD), 3)
    with Ledger.open(old):
        pass
    after = by_sql(old, "SELECT * FROM answers ORDER BY rowid")
    assert after[:-1] == [(*row, 0) for row in before]
    assert after[-1][0] == key(N_OLD) and after[-1][-1] == 3
    assert by_sql(old, "PRAGMA user_version") == [(2,)]


def test_four_processes_bring_one_ledger_up_to_date(old: Path):
    """All at one moment, each with answers of its own; nobody fails, nothing is lost."""
    script = """
first = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with Ledger.open(path) as ledger:
    for i in range(first, first + 10):
        ledger.put(key(i), answer(i), 1)
"""
    children = [start(script, old, N_OLD + 10 * child) for child in range(4)]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [(child.communicate(), child.returncode)[1] for child in children] == [0] * 4
    with Ledger.open(old) as ledger:
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in range(N_OLD + 40)}
    assert by_sql(old, "SELECT epoch, count(*) FROM answers GROUP BY epoch") == [(0, N_OLD), (1, 40)]


def test_killed_on_the_way_an_old_ledger_is_whole(old: Path, tmp_path: Path, needs: Callable[..., None]):
    """Killed by strace as it enters its n-th write to a file, or sync: n = 1, 3, ... until it comes through."""
    needs(program="strace", remedy="apt-get install strace")
    expected = {key(i): answer(i) for i in range(N_OLD)}
    for n in range(1, 40, 2):
        folder = tmp_path / f"killed-{n}"
        folder.mkdir()
        path = Path(shutil.copy(old, folder))
        inject = f"inject=pwrite64,fsync,fdatasync,ftruncate:signal=KILL:when={n}"
        trace = f"strace -f -qq -e trace=pwrite64,fsync,fdatasync,ftruncate -e {inject} -o /dev/null".split()
        done = subprocess.run([*trace, *command("Ledger.open(path).close()", path)], timeout=60, check=False)
        assert by_sql(path, "PRAGMA user_version") in ([(1,)], [(2,)])
        assert by_sql(path, "PRAGMA integrity_check") == [("ok",)]
        with Ledger.open(path) as ledger:
            assert dict(ledger.iterate()) == expected
        if done.returncode == 0:
            assert n > 4  # the WAL's header, a frame, its sync, and the copy into the file at least
            return
    raise AssertionError("never came through")


def test_a_program_of_version_1_refuses_rather_than_spoils(old: Path):
    """It has the file open, by SQL as it was, while we bring it up to date: its insert fails, what stands stays."""
    with closing(sqlite3.connect(old)) as version_1:
        version_1.execute("SELECT count(*) FROM answers").fetchone()
        run("Ledger.open(path).close()", old)
        with pytest.raises(sqlite3.OperationalError, match="5 columns but 4 values"):
            version_1.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (key(-1), b"late", 0, 0))
    with Ledger.open(old) as ledger:
        assert len(ledger) == N_OLD


def test_a_ledger_of_a_later_version_is_left_alone(old: Path):
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA user_version=3")
    before = old.read_bytes()
    with pytest.raises(DataError, match=r"has version 3.*update datastill"):
        Ledger.open(old)
    assert old.read_bytes() == before
