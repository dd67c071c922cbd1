import itertools
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from datagen.contracts.cluster import n_workers
from datagen.contracts.errors import ParamsError
from datagen.verify.pool import Check, Result, in_order


def check(function: Callable[..., Any], *arguments: object, timeout_s: float = 20.0) -> Check[Any]:
    return Check(function=function, arguments=arguments, timeout_s=timeout_s, conclude=lambda result: result)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.mark.parametrize("n", [1, 2])
def test_order_is_kept_for_any_number_of_workers(n: int):
    """Products by hand; items that are no checks pass through."""
    items = [i if i % 3 == 0 else check(operator.mul, i, 7) for i in range(60)]
    answers = [item if isinstance(item, int) else item.value for item in in_order(items, n)]
    assert answers == [i if i % 3 == 0 else 7 * i for i in range(60)]


def test_a_hostile_check_costs_its_own_row():
    """What each call does to a process is known: it never ends, sleeps, exits, aborts, takes too much, raises."""
    hostile = [
        (check(sum, range(10**15), timeout_s=0.5), "timeout", "no result in 0.5 s"),
        (check(time.sleep, 1000, timeout_s=0.1), "timeout", "waited 1 s"),
        (check(os._exit, 3), "error", "exit code 3"),
        (check(os.abort), "error", "SIGABRT"),
        (check(bytearray, 10**13), "error", "MemoryError"),
        (check(operator.truediv, 1, 0), "error", "ZeroDivisionError: division by zero"),
        (check(sys.exit, 1), "error", "SystemExit"),
        (check(operator.attrgetter("missing"), 1), "error", "AttributeError"),
    ]
    items = [item for bad, _, _ in hostile for item in (bad, check(operator.mul, 6, 7))]
    results = list(in_order(items, 2))
    assert [result.status for result in results[::2]] == [status for _, status, _ in hostile]
    for result, (_, _, words) in zip(results[::2], hostile, strict=True):
        assert words in result.detail
    assert [result.value for result in results[1::2]] == [42] * len(hostile)
    assert children() == []


def test_a_check_may_start_no_process_unless_its_pool_says_so():
    """/proc is the oracle: what forks and leaves by exit leaves nothing behind; where it may, it does start one."""
    code = "import os; os.fork() or os._exit(0)"
    spawn = "import os; os.posix_spawn('/bin/true', ['true'], {})"
    attempts = [check(exec, code), check(subprocess.call, ["true"]), check(exec, spawn)]
    results = list(in_order([*attempts, check(operator.mul, 6, 7)], 2))
    assert [result.status for result in results] == ["error"] * 3 + ["done"]
    assert all("PermissionError" in result.detail for result in results[:3])
    (allowed,) = in_order([check(subprocess.call, ["true"])], 1, may_start_processes=True)
    assert (allowed.status, allowed.value) == ("done", 0)
    assert children() == []


def test_a_check_may_start_threads():
    """An executor of threads gives the sum of squares, by hand 0 + 1 + 4 + 9."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as threads: "
        "found = sum(threads.map(lambda n: n * n, range(4)))\nassert found == 14"
    )
    (result,) = in_order([check(exec, code, {})], 1)
    assert result.status == "done", result.detail


def test_a_result_that_the_parent_could_not_hold_is_an_error():
    (result,) = in_order([check(operator.mul, b"x", 2**27)], 1)
    assert (result.status, result.value) == ("error", None)
    assert "at most" in result.detail


def test_the_clock_starts_with_the_check():
    """2,000 naps of 2 ms on 2 workers take 2 s together; each may take 0.15 s of CPU time and 1.5 s by the clock."""
    start = time.monotonic()
    results = list(in_order((check(time.sleep, 0.002, timeout_s=0.15) for _ in range(2000)), 2))
    assert [result.status for result in results] == ["done"] * 2000
    assert time.monotonic() - start > 2


def test_reads_ahead_by_a_bounded_number():
    """Behind a check that hangs, an endless input is read up to the window and no further."""
    n_read = itertools.count()
    endless = (item for item in itertools.chain([check(sum, range(10**15), timeout_s=1)], n_read))
    results = in_order(endless, 1)
    assert isinstance(first := next(results), Result)
    assert first.status == "timeout"
    assert next(n_read) <= 1024
    results.close()


def test_workers_end_with_the_iterator():
    results = in_order([check(operator.add, 1, 1), check(sum, range(10**15), timeout_s=1000)], 2)
    next(results)
    assert children()
    results.close()
    assert children() == []


def test_workers_end_with_a_killed_parent():
    """Seen from outside, by psutil."""
    program = (
        "from datagen.verify.pool import *; check = Check(function=sum, arguments=(range(10**15),), timeout_s=1000, "
        "conclude=print); list(in_order([check] * 2, 2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    seen = psutil.Process(parent.pid)
    while len(workers := seen.children()) < 2:
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []


def test_number_of_workers_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_WORKERS", "3")
    assert n_workers() == 3
    monkeypatch.setenv("DATASTILL_WORKERS", "many")
    with pytest.raises(ParamsError, match=r"DATASTILL_WORKERS.*'many'"):
        n_workers()
