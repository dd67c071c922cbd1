"""Checks that may hang or crash, in worker processes that can be killed.

A check is a function and its arguments. It runs alone in its worker; the clock starts when the function starts, not
when the check is queued or while the worker imports what it needs. One that runs too long, crashes or exhausts the
memory costs its own row and its worker, which is replaced. Time is the worker's CPU time, kept by the kernel, so that a
busy machine does not turn answers into timeouts; a check that waits instead is killed by the wall clock.

A check may start no process, unless its pool says so: a seccomp filter refuses it, so that a fork bomb is a check that
fails and nothing outlives its worker. The pool is for functions of ours on texts of others; it keeps no code of others
from files, the network or its parent: `code_execution` has a sandbox for that, and starts it from here.

Workers are fresh interpreters rather than forks, so that no lock, thread or open file of the parent lives on in them.
They end with the thread that started them, even by SIGKILL.

Source: setrlimit(2) for RLIMIT_AS, prctl(2) for PR_SET_PDEATHSIG, setitimer(2) for ITIMER_PROF, seccomp(2).
"""

import ctypes
import importlib
import logging
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from multiprocessing.connection import wait as wait_for_any
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

from datagen.verify import _sandbox

MEMORY_BYTES = 4 * 2**30  # address space of a worker
_WALL_S_PER_CPU_S = 10  # a machine may be that busy before a check is taken to wait for something
_WINDOW = 1024  # rows read ahead, so that the others go on while one takes its time
_MAX_RESULT_BYTES = 64 * 2**20  # what a check returns, pickled; the parent has to hold it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a check: what the function returned, or in `detail` why it returned nothing."""

    status: Literal["done", "error", "timeout"]
    value: Any = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check(Generic[T]):
    """A call to make in a worker, and what to conclude from its result here.

    Attributes:
        function: importable by name in another process.
        arguments: picklable.
        timeout_s: seconds of CPU time that the function may take; ten times that by the wall clock.
        conclude: makes the row's answer of the result.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout_s: float
    conclude: Callable[[Result], T]


def in_order(
    items: Iterable[T | Check[T]], n_workers: int, modules: Sequence[str] = (), *, may_start_processes: bool = False
) -> Generator[T, None, None]:
    """The items in order, checks replaced by what is concluded from them.

    At most `_WINDOW` items are held. Workers start when the first checks come, and end with the iterator, unless
    `KeptWorkers` serve it.

    Args:
        items: answers that need no worker, and checks.
        n_workers: does not change the results.
        modules: imported by each worker before its first check, off the clock.
        may_start_processes: whether a check may; where it does, ending them is its own affair.
    """
    window: deque[T | Check[T]] = deque()
    concluded: dict[Check[T], T] = {}
    with _open_pool(n_workers, modules, may_start_processes) as pool:

        def collect(wait: bool) -> None:
            for check, result in pool.step(wait):
                concluded[check] = check.conclude(result)

        def take() -> T:
            item = window.popleft()
            return concluded.pop(item) if isinstance(item, Check) else item

        def ready() -> bool:
            return not isinstance(window[0], Check) or window[0] in concluded

        for item in items:
            window.append(item)
            if isinstance(item, Check):
                pool.submit(item)
            collect(wait=False)
            while len(window) == _WINDOW and not ready():
                collect(wait=True)
            while window and ready():
                yield take()
        while window:
            while not ready():
                collect(wait=True)
            yield take()


class KeptWorkers:
    """Workers that outlive `in_order`, for one who judges a few rows at a time and often: a start takes a second.

    What runs inside `with workers.serving():` takes its workers from here and gives them back; those of another number
    or with other modules are others. Leaving `with KeptWorkers():` ends them.

    Args:
        at_most: so many serve a call, whatever it asks for, where several processes share the CPUs.
    """

    def __init__(self, at_most: int | None = None) -> None:
        self._at_most = at_most
        self._idle: dict[tuple[int, tuple[str, ...], bool], _Pool] = {}

    def __enter__(self) -> "KeptWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._idle.values():
            pool.close()
        self._idle.clear()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let every `in_order` that starts inside take its workers from here."""
        token = _SERVING.set(self)
        try:
            yield
        finally:
            _SERVING.reset(token)

    @contextmanager
    def pool(self, n_workers: int, modules: Sequence[str], may_start_processes: bool) -> Iterator["_Pool"]:
        """Workers for one call; one that ends before its checks did ends them."""
        key = (min(n_workers, self._at_most or n_workers), tuple(modules), may_start_processes)
        pool = self._idle.pop(key, None) or _Pool(*key)  # a call inside a call gets others
        with pool:
            yield pool
            if key not in self._idle:
                self._idle[key] = pool.keep()


_SERVING: ContextVar[KeptWorkers | None] = ContextVar("kept_workers", default=None)


@contextmanager
def _open_pool(n_workers: int, modules: Sequence[str], may_start_processes: bool) -> Iterator["_Pool"]:
    kept, key = _SERVING.get(), (n_workers, modules, may_start_processes)
    with kept.pool(*key) if kept else _Pool(*key) as pool:
        yield pool


class _Worker:
    """One process, and the check that it has."""

    def __init__(self, modules: Sequence[str], may_start_processes: bool) -> None:
        self.connection, theirs = Pipe()
        serve = "import sys; from datagen.verify import pool; pool.serve(*map(int, sys.argv[1:4]), sys.argv[4:])"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", serve]
                + [str(number) for number in (theirs.fileno(), os.getpid(), int(may_start_processes))]
                + [*modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # a fixed hash seed, so that what depends on the order of a set is the same in every worker
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"},
            )
        self.check: Check[Any] | None = None
        self.deadline = float("inf")

    def start(self, check: Check[Any]) -> None:
        """Hand over a check; its deadline is set when the worker says that it started."""
        self.connection.send((check.function, check.arguments, check.timeout_s))
        self.check, self.deadline = check, float("inf")

    def result(self) -> Result | None:
        """The result of its check, where there is one by now."""
        assert self.check
        try:
            while self.connection.poll():
                if result := self.connection.recv():
                    return result
                self.deadline = time.monotonic() + _WALL_S_PER_CPU_S * self.check.timeout_s  # it has started
        except (EOFError, ConnectionResetError):
            code = self.process.wait()
            self.kill()
            if code == -signal.SIGPROF:
                return Result(status="timeout", detail=f"no result in {self.check.timeout_s:g} s")
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Result(status="error", detail=f"the check ended its process: {how}")
        if time.monotonic() < self.deadline:
            return None
        self.kill()
        return Result(status="timeout", detail=f"waited {_WALL_S_PER_CPU_S * self.check.timeout_s:g} s for something")

    @property
    def alive(self) -> bool:
        """Whether it can take another check."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


class _Pool:
    """The workers and the checks that wait for one."""

    def __init__(self, n_workers: int, modules: Sequence[str], may_start_processes: bool) -> None:
        self._n_workers = n_workers
        self._modules = modules
        self._may_start_processes = may_start_processes
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._queue: deque[Check[Any]] = deque()

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker."""
        for worker in self._idle + self._busy:
            worker.kill()
        self._idle, self._busy = [], []

    def keep(self) -> "_Pool":
        """Another pool that has this one's idle workers from now on."""
        other = _Pool(self._n_workers, self._modules, self._may_start_processes)
        other._idle, self._idle = self._idle, []
        return other

    def submit(self, check: Check[Any]) -> None:
        self._queue.append(check)
        self._hand_out()

    def step(self, wait: bool) -> list[tuple[Check[Any], Result]]:
        """Checks that ended; with `wait`, not before something happened: an end, a start or a deadline."""
        if wait:
            deadline = min(worker.deadline for worker in self._busy)
            timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
            wait_for_any([worker.connection for worker in self._busy], timeout)
        ended: list[tuple[Check[Any], Result]] = []
        for worker in list(self._busy):
            if result := worker.result():
                assert worker.check
                ended.append((worker.check, result))
                self._busy.remove(worker)
                if worker.alive:
                    self._idle.append(worker)
        self._hand_out()
        return ended

    def _hand_out(self) -> None:
        while self._queue and (self._idle or len(self._busy) < self._n_workers):
            worker = self._idle.pop() if self._idle else _Worker(self._modules, self._may_start_processes)
            try:
                worker.start(self._queue[0])
            except (BrokenPipeError, ConnectionResetError):  # it died while it was idle: no check's fault
                worker.kill()
                continue
            self._queue.popleft()
            self._busy.append(worker)


def serve(descriptor: int, parent: int, may_start_processes: int, modules: Sequence[str]) -> None:
    """Be a worker of process `parent`: answer checks that come by the connection on `descriptor` until it closes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    for module in modules:
        importlib.import_module(module)
    if not may_start_processes:
        _sandbox.refuse_processes()
    with Connection(descriptor) as connection:
        while True:
            try:
                sent = connection.recv_bytes()
            except EOFError:
                return
            try:
                function, arguments, timeout_s = pickle.loads(sent)
                connection.send(None)
                signal.setitimer(signal.ITIMER_PROF, timeout_s)  # SIGPROF, whose default is to end the process
                value = function(*arguments)
                signal.setitimer(signal.ITIMER_PROF, 0)
                answer = pickle.dumps(Result(status="done", value=value))
                if len(answer) > _MAX_RESULT_BYTES:
                    raise MemoryError(f"a result of {len(answer)} bytes; at most {_MAX_RESULT_BYTES} are taken")
                del value
            except BaseException as error:
                detail = re.sub(r"0x[0-9a-f]+", "0x", f"{type(error).__name__}: {error}")[:1000]  # no addresses
                signal.setitimer(signal.ITIMER_PROF, 0)
                answer = pickle.dumps(Result(status="error", detail=detail))
            connection.send_bytes(answer)
