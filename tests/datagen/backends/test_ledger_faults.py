"""The ledger on damaged files, full disks, jumping clocks and lost page caches, and when it is killed."""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from datagen.backends.ledger import Ledger
from datagen.cli import main
from datagen.contracts.errors import BackendError, DataError
from datagen.ledger_upkeep import count_by_epoch
from tests.ledger_process import SIXTY_FOUR, answer, command, flip_byte_of, key, run, start


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
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
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


def test_a_full_disk_tells_all_64_writers(path: Path):
    """64 tasks at once: each put ends, answered or by the one error; what was acknowledged stays, and room mends it."""
    script = """
import resource
from datagen.contracts.errors import BackendError
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
async def write(ledger, i):
    await ledger.aput(key(i), answer(i))
    return i
async def write_all(ledger, numbers):
    return await asyncio.gather(*(write(ledger, i) for i in numbers), return_exceptions=True)
with Ledger.open(path) as ledger:
    acknowledged, refused = [], []
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    for start in range(0, 1280, 64):
        for ended in asyncio.run(write_all(ledger, range(start, start + 64))):
            (acknowledged if isinstance(ended, int) else refused).append(ended)
    assert acknowledged and refused
    assert {type(error) for error in refused} == {BackendError}
    assert all("make room" in str(error) for error in refused)
    assert ledger.get_many(map(key, acknowledged)).keys() == set(map(key, acknowledged))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    missing = sorted(set(range(1280)) - set(acknowledged))
    assert asyncio.run(write_all(ledger, missing)) == missing
"""
    run(script, path)
    with Ledger.open(path) as ledger:
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in range(1280)}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.98])
def test_a_truncated_ledger_is_named_and_left_alone(path: Path, share: float):
    """Cut early, in the middle, and within its last page: a clear line, and the file is as the fault left it."""
    with Ledger.open(path) as ledger:
        ledger.put_many({key(i): answer(i) for i in range(200)})
    os.truncate(path, int(path.stat().st_size * share))
    before = path.read_bytes()
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*restore it from a copy"):
        Ledger.open(path)
    assert path.read_bytes() == before


def test_a_clock_that_jumps_changes_no_answer(path: Path):
    """A process whose clock goes to 1970, before it, and beyond the calendar, with a claim held all the while."""
    script = """
clock = iter([1.7e9, 0.0, -86400.0, 1e15, 1.6e9])
time.time = lambda: next(clock)
with Ledger.open(path) as ledger:
    for i in range(5):
        assert ledger.claim([key(i), key(99)]).granted == ([key(0), key(99)] if i == 0 else [key(i)])
        ledger.put(key(i), answer(i))
"""
    run(script, path)
    with Ledger.open(path) as ledger:
        assert list(ledger.iterate()) == [(key(i), answer(i)) for i in range(5)]
        assert ledger.claim([key(99)]).granted == [key(99)]
    (epoch,) = count_by_epoch(path)
    assert (epoch.n_answers, epoch.oldest, epoch.newest) == (5, -86400, 10**15)
    assert main(["ledger", "stats", "--ledger", str(path)]) == 0


def test_a_lost_page_cache_loses_nothing_acknowledged(path: Path, tmp_path: Path, needs: Callable[..., None]):
    """What a power cut leaves: at 12 moments of a child's log of system calls, its WAL cut to what was synced by then.

    The child is killed at work, so no checkpoint moved anything out of the WAL. A sync counts where it returned, and
    covers what was written before it began.
    """
    needs(program="strace", remedy="apt-get install strace")
    script = SIXTY_FOUR.replace(
        "await ledger.aput(key(i), answer(i))",
        """
                await ledger.aput(key(i), answer(i))
                os.write(1, b"ack %d\\n" % i)
                if i >= 639:
                    os.kill(os.getpid(), 9)""",
    )
    log = tmp_path / "strace"
    calls = ["-e", "trace=pwrite64,fsync,fdatasync,write", "-e", "signal=none", "-s", "16"]
    child = ["strace", "-f", "-y", "-qq", *calls, "-o", str(log), *command(script, path, "tasks", 5000)]
    subprocess.run(child, stdout=subprocess.DEVNULL, timeout=120, check=False)
    moments = synced_and_acknowledged(log.read_text().splitlines())
    assert len(moments) > 100 and moments[-1][1]
    wal = path.with_name("ledger.sqlite-wal")
    for synced_bytes, acknowledged in moments[:: len(moments) // 12]:
        folder = tmp_path / str(len(acknowledged))
        folder.mkdir()
        shutil.copy(path, folder)
        cut = Path(shutil.copy(wal, folder))
        assert synced_bytes <= cut.stat().st_size
        os.truncate(cut, synced_bytes)
        with Ledger.open(folder / path.name) as ledger:
            assert ledger.get_many(map(key, acknowledged)) == {key(i): answer(i) for i in acknowledged}


def synced_and_acknowledged(lines: list[str]) -> list[tuple[int, list[int]]]:
    """After each acknowledgement in a log of strace: bytes of the WAL that are synced, and all acknowledged so far."""
    written = syncing = synced = 0
    acknowledged: list[int] = []
    moments: list[tuple[int, list[int]]] = []
    for line in lines:
        if call := re.search(r"pwrite64\(\d+<[^>]*-wal>, .*, (\d+), (\d+)", line):
            written = max(written, int(call[1]) + int(call[2]))
        elif re.search(r"f(data)?sync\(\d+<[^>]*-wal>", line):
            syncing = written
            synced = syncing if re.search(r"\) += 0", line) else synced
        elif re.search(r"f(data)?sync resumed>.*= 0", line):
            synced = syncing
        elif call := re.search(r'write\(1<.*"ack (\d+)\\n"', line):
            acknowledged.append(int(call[1]))
            moments.append((synced, acknowledged.copy()))
    return moments
