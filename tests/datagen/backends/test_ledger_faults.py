"""The ledger on damaged files, full disks, jumping clocks and lost page caches, and when it is killed."""

import os
import random
import re
import sqlite3
import time
from pathlib import Path

import pytest

from datagen.backends.ledger import Ledger
from datagen.contracts.errors import BackendError, DataError
from tests.ledger_process import SIXTY_FOUR, answer, flip_byte_of, key, run, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite"


def test_sigkill_loses_nothing_acknowledged(path: Path):
    """A child reports each acknowledged number on a pipe and is killed at a random moment, six times over."""
    script = SIXTY_FOUR.replace(
        "await ledger.aput(key(i), answer(i))",
        """
                await ledger.aput(key(i), answer(i))
                os.write(1, b"%d\\n" % i)""",
    ).replace("range(writer, n, 64)", "range(n + writer, n + 1000000, 64)")
    acknowledged: set[int] = set()
    moments = random.Random(0)
    for round_ in range(6):
        child = start(script, path, "tasks", round_ * 1_000_000)
        assert child.stdout is not None
        acknowledged.add(int(child.stdout.readline()))  # it is at work
        time.sleep(moments.uniform(0, 0.1))
        child.kill()
        acknowledged.update(int(line) for line in child.stdout.read().split("\n")[:-1] if line)
        child.wait()
        child.communicate()
    assert len(acknowledged) > 6
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    with Ledger.open(path) as ledger:
        stored = dict(ledger.iterate())
    assert {key(i) for i in acknowledged} <= stored.keys()
    assert all(text == answer(int(text.split(b":")[0])) for text in stored.values())


# --- damage ---


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be read as one" * 100])
def test_a_foreign_file_is_left_alone(path: Path, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_a_foreign_database_is_left_alone(path: Path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE answers (id INTEGER)")
    connection.close()
    with pytest.raises(DataError, match="is not a ledger: damaged, cut to nothing"):
        Ledger.open(path)


def test_a_truncated_ledger_says_so(path: Path):
    with Ledger.open(path) as ledger:
        ledger.put_many({key(i): answer(i) for i in range(200)})
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*restore it from a copy"):
        Ledger.open(path)


def test_a_damaged_answer_says_so(path: Path):
    """One flipped bit in one of two answers: the other is still read."""
    with Ledger.open(path) as ledger:
        ledger.put_many({key(1): answer(1), key(2): answer(2)})
    flip_byte_of(path, answer(1))
    with Ledger.open(path) as ledger:
        assert ledger.get_many([key(2)]) == {key(2): answer(2)}
        with pytest.raises(DataError, match=key(1).hex()):
            ledger.get_many([key(1)])


def test_a_wal_without_its_ledger_is_not_overwritten(path: Path):
    """The ledger's main file was removed after a kill: the answers in its WAL are not thrown away."""
    child = start("ledger = Ledger.open(path); ledger.put(key(1), answer(1)); print(flush=True); input()", path)
    assert child.stdout is not None and child.stdout.readline() == "\n"
    child.kill()
    child.communicate()
    path.rename(path.with_name("kept"))
    with pytest.raises(DataError, match="restore it, or remove both"):
        Ledger.open(path)
    path.with_name("kept").rename(path)
    with Ledger.open(path) as ledger:
        assert ledger.get_many([key(1)]) == {key(1): answer(1)}


def test_a_full_disk_loses_no_acknowledged_answer(path: Path):
    """The kernel refuses to let the file grow; once it may, the same ledger goes on."""
    script = """
import resource
from datagen.contracts.errors import BackendError
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
acknowledged = []
with Ledger.open(path) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        for i in range(1000):
            ledger.put(key(i), answer(i))
            acknowledged.append(i)
    except BackendError as error:
        assert str(path) in str(error) and "make room" in str(error), error
    assert 10 < len(acknowledged) < 1000
    assert ledger.get_many(map(key, acknowledged)) == {key(i): answer(i) for i in acknowledged}
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ledger.put(key(1000), answer(1000))
print(len(acknowledged))
"""
    n = int(run(script, path))
    with Ledger.open(path) as ledger:
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in [*range(n), 1000]}


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BackendError, match=r"ledger\.sqlite"):
        Ledger.open(tmp_path / "file" / "ledger.sqlite")
