"""The ledger against plain dicts, SQLite's file format, the kernel's own record of syncs, and real killed processes."""

import asyncio
import fcntl
import hashlib
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datagen.backends import ledger as ledger_module
from datagen.backends.ledger import Ledger, ledger_path, request_key
from tests.ledger_process import SIXTY_FOUR, answer, command, key, run, start

N_WRITERS = 64


def commits_in(wal: Path) -> int:
    """Commit frames of the live part of a WAL (https://sqlite.org/fileformat.html#the_write_ahead_log)."""
    data = wal.read_bytes()
    page_size, salts = struct.unpack(">I", data[8:12])[0], data[16:24]
    frames = [data[start : start + 24] for start in range(32, len(data), 24 + page_size)]
    return sum(frame[4:8] != b"\0\0\0\0" for frame in frames if frame[8:16] == salts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite"


def test_key_is_the_hash_of_canonical_json():
    """The canonical text written by hand; the order of the fields doesn't matter."""
    text = '{"messages":[{"content":"Grüße, 世界","role":"user"}],"model":"m","temperature":0.7}'
    messages = [{"role": "user", "content": "Grüße, 世界"}]
    fields = {"temperature": 0.7, "model": "m", "messages": messages}
    assert request_key(fields) == hashlib.sha256(text.encode()).digest()
    assert request_key(dict(reversed(fields.items()))) == request_key(fields)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_key_refuses_what_has_no_canonical_form(value: object):
    with pytest.raises(ValueError):
        request_key({"value": value})


def test_path_is_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path))
    assert ledger_path() == tmp_path / "ledger.sqlite"


def test_answers_read_back_as_a_dict_would(path: Path):
    """A dict; over one page of rows, over one batch of keys, and after closing."""
    expected = {key(i): answer(i) for i in range(2500)}
    with Ledger.open(path) as ledger:
        assert ledger.put_many(expected) == expected
    with Ledger.open(path) as ledger:
        assert len(ledger) == 2500
        assert list(ledger.iterate()) == list(expected.items())
        assert ledger.get_many(key(i) for i in range(-10, 2510)) == expected
        assert ledger.get_many([]) == {} == ledger.put_many({})


def test_first_answer_stays(path: Path):
    """Whichever way the second comes, alone, in a batch or in the same group, and after reopening."""

    async def both(ledger: Ledger) -> list[bytes]:
        return list(await asyncio.gather(ledger.aput(key(2), b"first"), ledger.aput(key(2), b"second")))

    with Ledger.open(path) as ledger:
        assert ledger.put(key(1), b"first") == b"first"
        assert ledger.put(key(1), b"second") == b"first"
        assert ledger.put_many({key(1): b"third", key(3): b"new"}) == {key(1): b"first", key(3): b"new"}
        assert asyncio.run(both(ledger)) == [b"first", b"first"]
    with Ledger.open(path) as ledger:
        assert dict(ledger.iterate()) == {key(1): b"first", key(3): b"new", key(2): b"first"}


def test_only_answers_are_stored(path: Path):
    with Ledger.open(path) as ledger:
        with pytest.raises(ValueError, match="empty answer"):
            ledger.put_many({key(1): b"an answer", key(2): b""})
        with pytest.raises(ValueError, match="32 bytes"):
            ledger.put(b"short", b"an answer")
        assert len(ledger) == 0
    with pytest.raises(ValueError, match="closed"):
        ledger.put(key(1), b"late")


@pytest.fixture(params=[ledger_module.SLOW_COMMIT_S, -1.0], ids=["fast disk", "slow disk"])
def either_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop commits; every commit counts as slow, so the thread does."""
    monkeypatch.setattr(ledger_module, "SLOW_COMMIT_S", request.param)


@pytest.mark.usefixtures("either_disk")
def test_a_cancelled_task_has_still_paid(path: Path):
    async def cancel_one_of_two(ledger: Ledger) -> bytes:
        cancelled, other = (asyncio.create_task(ledger.aput(key(i), answer(i))) for i in (1, 2))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        return await other

    with Ledger.open(path) as ledger:
        assert asyncio.run(cancel_one_of_two(ledger)) == answer(2)
    with Ledger.open(path) as ledger:
        assert dict(ledger.iterate()) == {key(1): answer(1), key(2): answer(2)}


@pytest.mark.usefixtures("either_disk")
def test_tasks_and_threads_at_once(path: Path):
    """Whoever commits, each put returns what stands, and all of it is in the file."""

    async def put_from_both(ledger: Ledger) -> list[bytes]:
        tasks = [ledger.aput(key(i), answer(i)) for i in range(100)]
        threads = [asyncio.to_thread(ledger.put, key(i), answer(i)) for i in range(50, 150)]
        return list(await asyncio.gather(*tasks, *threads))

    with Ledger.open(path) as ledger:
        expected = [answer(i) for i in (*range(100), *range(50, 150))]
        assert asyncio.run(put_from_both(ledger)) == expected
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in range(150)}


def test_a_loop_that_stands_still_keeps_no_answer_from_the_disk(path: Path):
    async def stand_still(ours: Ledger, theirs: Ledger) -> bool:
        task = asyncio.create_task(ours.aput(key(1), answer(1)))
        await asyncio.sleep(0)
        deadline = time.monotonic() + 20
        while key(1) not in theirs.get_many([key(1)]) and time.monotonic() < deadline:
            time.sleep(0.01)  # and the loop with it
        stood = not task.done()
        await task
        return stood and time.monotonic() < deadline

    with Ledger.open(path) as ours, Ledger.open(path) as theirs:
        assert asyncio.run(stand_still(ours, theirs))


# --- durability ---


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_64_writers_share_syncs(path: Path, tmp_path: Path, kind: str, needs: Callable[..., None]):
    """The kernel's count, opening and closing included: at most one sync per 8 answers."""
    needs(program="strace", remedy="apt-get install strace")
    n, log = N_WRITERS * 40, tmp_path / "strace"
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", str(log)]
    subprocess.run([*trace, *command(SIXTY_FOUR, path, kind, n)], check=True, timeout=60)
    n_syncs = len(re.findall(r"\b(?:fsync|fdatasync)\(", log.read_text()))
    assert 0 < n_syncs <= n / 8
    with Ledger.open(path) as ledger:
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in range(n)}


def test_64_threads_share_commits_and_a_batch_has_one(path: Path):
    """Commit frames in SQLite's own WAL, each of which is one sync under `synchronous=FULL`."""
    n = N_WRITERS * 20
    with Ledger.open(path) as ledger:
        ledger.put_many({key(-i): answer(-i) for i in range(1, 3001)})
        wal = path.with_name("ledger.sqlite-wal")
        assert commits_in(wal) == 1

        def write(writer: int) -> None:
            for i in range(writer, n, N_WRITERS):
                ledger.put(key(i), answer(i))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(N_WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 < commits_in(wal) <= 1 + n / 8
        assert len(ledger) == 3000 + n


def test_acknowledged_after_the_sync(path: Path, tmp_path: Path, needs: Callable[..., None]):
    """System calls of a child that acknowledges on its output: write to the WAL, sync it, only then acknowledge."""
    needs(program="strace", remedy="apt-get install strace")
    log = tmp_path / "strace"
    calls = ["-e", "trace=pwrite64,fsync,fdatasync,write", "-e", "signal=none"]
    trace = ["strace", "-f", "-y", "-qq", *calls, "-o", str(log)]
    script = """
with Ledger.open(path) as ledger:
    for i in range(50):
        ledger.put(key(i), answer(i))
        os.write(1, b"ack")
"""
    subprocess.run([*trace, *command(script, path)], check=True, stdout=subprocess.DEVNULL, timeout=60)
    patterns = {
        "W": r"pwrite64\(\d+<[^>]*-wal>",
        "S": r"f(data)?sync(\(\d+<[^>]*-wal>\)| resumed>.*) += 0",  # where it returns
        "A": r'write\(1<.*"ack"',
    }
    lines = log.read_text().splitlines()
    calls = "".join(kind for line in lines for kind, pattern in patterns.items() if re.search(pattern, line))
    assert re.fullmatch("S*((W+S+)+A){50}[WS]*", calls)


# --- several processes ---


def test_eight_processes_create_one_ledger(path: Path):
    """All start at one moment, on a folder that doesn't exist; nobody meets a lock, nothing is lost."""
    script = """
first = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with Ledger.open(path) as ledger:
    for i in range(first, first + 20):
        ledger.put(key(i), answer(i))
"""
    children = [start(script, path, 20 * child) for child in range(8)]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [(child.communicate(), child.returncode)[1] for child in children] == [0] * 8
    with Ledger.open(path) as ledger:
        assert dict(ledger.iterate()) == {key(i): answer(i) for i in range(160)}


BUY = """
rng_step, n, purchases = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
bought = os.open(purchases, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Ledger.open(path) as ledger:
    wanted = [i * rng_step % n for i in range(n)]
    number = {key(i): i for i in wanted}
    for start in range(0, n, 16):
        missing = [key(i) for i in wanted[start : start + 16]]
        while missing:
            claimed = ledger.claim(missing)
            for granted in claimed.granted:
                os.write(bought, b"%d\\n" % number[granted])
                ledger.put(granted, answer(number[granted]))
            missing = claimed.taken
            time.sleep(0.005 if missing else 0)
    assert ledger.get_many(number) == {key(i): answer(i) for i in wanted}
"""


def test_three_processes_buy_no_answer_twice(path: Path, tmp_path: Path):
    """All want the same 400 answers, in other orders; each purchase is written down by an atomic append."""
    purchases = tmp_path / "purchases"
    children = [start(BUY, path, step, 400, purchases) for step in (1, 7, 399)]
    assert [(child.communicate(timeout=60), child.returncode)[1] for child in children] == [0] * 3
    assert sorted(map(int, purchases.read_text().split())) == list(range(400))


def test_claims_end_with_their_process(path: Path):
    """SIGKILL frees them at once; a live owner keeps them, stopped or not."""
    script = """
ledger = Ledger.open(path)
claimed = ledger.claim([key(i) for i in range(100)])
print(len(claimed.granted), flush=True)
sys.stdin.readline()
"""
    keys = [key(i) for i in range(100)]
    with Ledger.open(path) as ledger:
        child = start(script, path)
        assert child.stdout is not None and child.stdout.readline() == "100\n"
        child.send_signal(signal.SIGSTOP)
        assert ledger.claim(keys).taken == keys
        assert ledger.claim([key(100), key(5)]).granted == [key(100)]
        child.kill()
        child.wait()
        assert ledger.claim(keys).granted == keys
        child.communicate()


def test_claims_of_two_ledgers(path: Path):
    """Released, answered, closed; within one process as between two."""
    with Ledger.open(path) as ours, Ledger.open(path) as theirs:
        ours.put(key(0), answer(0))
        claimed = ours.claim([key(2), key(0), key(1), key(2)])
        assert (claimed.granted, claimed.answered, claimed.taken) == ([key(2), key(1)], {key(0): answer(0)}, [])
        assert theirs.claim([key(1), key(2)]).taken == [key(1), key(2)] == ours.claim([key(1), key(2)]).taken
        theirs.release([key(1), key(2)])  # not theirs
        assert theirs.claim([key(1)]).taken == [key(1)]
        ours.release([key(2)])
        assert theirs.claim([key(2)]).granted == [key(2)]
        ours.put(key(1), answer(1))
        assert theirs.claim([key(1)]).answered == {key(1): answer(1)}
        ours.claim([key(4)])
        ours.close()
        assert theirs.claim([key(4)]).granted == [key(4)]


def test_an_answer_on_its_way_to_the_disk_stays_claimed(path: Path):
    """Whoever gives up while its commit waits for another process's, here a lock by hand, has nothing bought twice."""

    async def give_up_while_storing(ours: Ledger, theirs: Ledger, turn: int) -> None:
        fcntl.flock(turn, fcntl.LOCK_EX)
        first = asyncio.create_task(ours.aput(key(1), answer(1)))
        await asyncio.sleep(0.05)  # so that the two are in two groups; in one it must hold as well
        second = asyncio.create_task(ours.aput(key(2), answer(2)))
        await asyncio.sleep(0)
        ours.release([key(1), key(2), key(3)])
        assert theirs.claim([key(1), key(2), key(3)]).granted == [key(3)]
        fcntl.flock(turn, fcntl.LOCK_UN)
        await asyncio.gather(first, second)

    with Ledger.open(path) as ours, Ledger.open(path) as theirs, path.with_name("ledger.sqlite-turn").open() as turn:
        ours.claim([key(1), key(2), key(3)])
        asyncio.run(give_up_while_storing(ours, theirs, turn.fileno()))
        assert theirs.claim([key(1), key(2)]).answered == {key(1): answer(1), key(2): answer(2)}


def test_a_put_ends_its_claim(path: Path):
    """The kernel's list of locks on the claims file."""

    def n_locks() -> int:
        inode = path.with_name("ledger.sqlite-claims").stat().st_ino
        return sum(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())

    with Ledger.open(path) as ledger:
        ledger.claim([key(i) for i in range(10)])
        assert n_locks() == 10
        ledger.put_many({key(i): answer(i) for i in range(9)})
        deadline = time.monotonic() + 30  # those who wait are told first
        while n_locks() > 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert n_locks() == 1


# --- scale ---


def test_memory_of_reading_back_does_not_grow(tmp_path: Path):
    """Peak memory of a process that reads 10,000 answers and of one that reads 100,000, both ways: within 2 MB."""
    script = """
import resource
n = int(sys.argv[2])
with Ledger.open(path) as ledger:
    assert sum(1 for _ in ledger.iterate()) == n
    for start in range(0, n, 1000):
        assert len(ledger.get_many(key(i) for i in range(start, start + 1000))) == 1000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peak_kb = []
    for n in (10_000, 100_000):
        with Ledger.open(tmp_path / f"{n}.sqlite") as ledger:
            for start_ in range(0, n, 5000):
                ledger.put_many({key(i): answer(i) for i in range(start_, start_ + 5000)})
        peak_kb.append(int(run(script, tmp_path / f"{n}.sqlite", n)))
    assert peak_kb[1] < peak_kb[0] + 2048
