"""Many requests at a time on one wire, answered in order and through the ledger.

An event loop in a thread of its own asks, so the wire stays busy while the consumer works; the consumer's thread draws
the requests and claims them. A request keeps its slot until its answer is on disk, so whatever kills the process, at
most `concurrency` answers were bought in vain. What waits for a retry holds no slot.

Where one request asks for several samples (`choices`), it is they that share a slot, and a transaction of the ledger. A
group of which an answer is missing is asked for whole, and an answer that stands stays.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request
from datagen.backends.choices import Groups
from datagen.backends.ledger import POLL_S

QUIET_S = 0.004  # without an answer: the wire is waiting for its server, and the consumer may have Python's lock
PATIENCE_S = 0.05  # that the consumer waits for such a pause
WINDOW_PER_SLOT = 64  # requests held for each in flight, so that one 40 times as slow as the others stops none of them

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Job:
    """A request with what became of it.

    Attributes:
        n_failed: attempts that failed for another reason than a rate limit.
        n_429: attempts that a rate limit ended.
        first_429: when it first did, by the loop's clock.
        group: the samples that this one request is to answer, in order; empty where it is one sample's.
    """

    request: Request
    key: bytes
    answer: Completion | Failure | None = None
    from_ledger: bool = False
    n_failed: int = 0
    n_429: int = 0
    first_429: float | None = None
    group: "tuple[Job, ...]" = ()


Reply = Completion | Failure | list[Completion | Failure] | float
"""The answer, or one for each of a job's group; why there can be none; or the seconds after which to ask again."""

Ask = Callable[[Job], Awaitable[Reply]]
"""One attempt."""


@contextmanager
def loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="wire", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run_in(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in another thread's loop, and wait for it."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def answer_in_order(
    requests: Iterable[Request],
    ask: Ask,
    *,
    identity: Mapping[str, Any],
    environment: Environment,
    loop: asyncio.AbstractEventLoop,
    choices_per_request: int = 1,
) -> Generator[Outcome, None, None]:
    """The outcome of every request, in order, each distinct one asked once and only where the ledger lacks its answer.

    Holds at most `WINDOW_PER_SLOT` requests a slot, times the choices. What `ask` raises ends it, and the requests in
    flight are dropped.
    """
    if choices_per_request == 1:
        window = _Window(iter(requests), ask, identity, environment, loop)
    else:
        window = _GroupWindow(iter(requests), ask, identity, environment, loop, choices_per_request)
    try:
        while window.draw():
            yield window.next()
    finally:
        window.close()


class _Window:
    """The requests held. Only the consumer's thread calls the public methods; the loop's thread does the rest."""

    def __init__(
        self,
        requests: Iterator[Request],
        ask: Ask,
        identity: Mapping[str, Any],
        environment: Environment,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._requests = requests
        self._ask = ask
        self._identity = identity
        self._environment = environment
        self._ledger = environment.ledger
        self._n_slots = environment.concurrency
        self._loop = loop
        self._held: deque[tuple[Request, Job]] = deque()
        self._jobs: dict[bytes, Job] = {}  # one a key, whatever asks for it
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        self._elsewhere: dict[bytes, Job] = {}  # claimed by another process
        self._n_submitted = 0  # written by the consumer's thread alone, and the next by the loop's
        self._n_started = 0
        self._head: Job | None = None
        self._due_since: float | None = None  # when the consumer first had something to do, by the loop's clock
        self._last_answer = 0.0  # by the loop's clock
        self._wake = threading.Event()  # there is something for the consumer to do, or an error
        self._error: Exception | None = None
        self._tasks = run_in(loop, self._start())

    def draw(self) -> bool:
        """Draw until twice as many are ready as there are slots; returns whether any request is held."""
        while self._n_submitted - self._n_started < 2 * self._n_slots:
            room = self._n_slots * WINDOW_PER_SLOT - self._n_held()
            if not self._hold(min(room, self._n_slots)):
                break
        return bool(self._held)

    def next(self) -> Outcome:
        """Wait for the first request's outcome."""
        request, job = self._held.popleft()
        self._head = job
        while job.answer is None:
            self._wake.wait()
            self._wake.clear()
            if self._error:
                raise self._error
            self.draw()
        asked_here = self._jobs.pop(job.key, None) is job and not job.from_ledger
        self._environment.count("ledger_hits", 0 if asked_here else 1)
        return Outcome(request=request, key=job.key, answer=job.answer, from_ledger=not asked_here)

    def close(self) -> None:
        """Stop asking and give up what is claimed; answers on their way to the disk still arrive there."""
        run_in(self._loop, self._stop())
        self._ledger.release(self._jobs)

    def _n_held(self) -> int:
        return len(self._held)

    def _hold(self, n: int) -> bool:
        """Draw and claim at most `n` requests; returns whether there were any."""
        new: dict[bytes, Job] = {}
        batch = list(islice(self._requests, n))
        for request in batch:
            key = request.key(self._identity)
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = new[key] = Job(request, key)
            self._held.append((request, job))
        self._claim_new(new)
        return bool(batch)

    def _claim_new(self, new: Mapping[bytes, Job]) -> None:
        granted, taken = self._claim(new)
        self._n_submitted += len(granted)
        if granted or taken:
            self._loop.call_soon_threadsafe(self._submit, granted, taken)

    def _claim(self, jobs: Mapping[bytes, Job]) -> tuple[dict[bytes, Job], dict[bytes, Job]]:
        """Those to ask, and those that another process is asking; the others are answered from the ledger."""
        claimed = self._ledger.claim(jobs)
        self._answer_from_ledger(jobs, claimed.answered)
        return {key: jobs[key] for key in claimed.granted}, {key: jobs[key] for key in claimed.taken}

    def _answer_from_ledger(self, jobs: Mapping[bytes, Job], answered: Mapping[bytes, bytes]) -> None:
        for key, stored in answered.items():
            jobs[key].from_ledger = True
            self._finish(jobs[key], Completion.from_bytes(stored))

    def _finish(self, job: Job, answer: Completion | Failure) -> None:
        job.answer = answer

    def _finish_here(self, job: Job, answer: Completion | Failure) -> None:
        self._finish(job, answer)
        self._last_answer = self._loop.time()
        if job is self._head:
            self._wake_in_pause()

    def _wake_in_pause(self) -> None:
        """Wake the consumer once no answer has come for a while: meanwhile it would take time from the wire."""
        if self._due_since is None:
            self._due_since = self._loop.time()
            self._loop.call_later(QUIET_S, self._wake_if_quiet)

    def _wake_if_quiet(self) -> None:
        now = self._loop.time()
        assert self._due_since is not None
        if now - self._last_answer < QUIET_S and now - self._due_since < PATIENCE_S:
            self._loop.call_later(QUIET_S, self._wake_if_quiet)
        else:
            self._due_since = None
            self._wake.set()

    async def _start(self) -> list[asyncio.Task[None]]:
        slots = [self._fill_slot() for _ in range(self._n_slots)]
        return [asyncio.create_task(self._guard(work)) for work in (*slots, self._watch_others())]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # whatever it is, the consumer raises it
            self._error = self._error or error
            self._wake.set()

    def _submit(self, granted: Mapping[bytes, Job], taken: Mapping[bytes, Job]) -> None:
        for job in granted.values():
            self._ready.put_nowait(job)
        self._elsewhere |= taken

    def _submit_again(self, jobs: Mapping[bytes, Job]) -> None:
        self._n_started -= len(jobs)
        self._submit(jobs, {})

    async def _fill_slot(self) -> None:
        while True:
            job = await self._ready.get()
            self._n_started += 1
            n_ready = self._n_submitted - self._n_started
            if n_ready == self._n_slots // 2:
                self._wake.set()
            elif n_ready < 2 * self._n_slots:
                self._wake_in_pause()
            reply = await self._ask(job)
            if isinstance(reply, Completion):
                answer = reply.to_bytes()
                stored = await self._ledger.aput(job.key, answer, job.request.sampling.cache_epoch)
                self._finish_here(job, reply if stored == answer else Completion.from_bytes(stored))
            elif isinstance(reply, Failure | list):
                jobs = job.group or (job,)
                await self._finish_group(jobs, [reply] * len(jobs) if isinstance(reply, Failure) else reply)
            else:
                self._loop.call_later(reply, self._submit_again, {job.key: job})

    async def _finish_group(self, jobs: Sequence[Job], answers: Sequence[Completion | Failure]) -> None:
        """Store the answers in one transaction; what was answered before stays."""
        fresh = {
            job.key: answer.to_bytes()
            for job, answer in zip(jobs, answers, strict=True)
            if isinstance(answer, Completion)
        }
        stored = await self._ledger.aput_many(fresh, jobs[0].request.sampling.cache_epoch)
        self._ledger.release([job.key for job in jobs])
        for job, answer in zip(jobs, answers, strict=True):
            if job.answer is None:
                is_first = stored.get(job.key) == fresh.get(job.key)
                self._finish_here(job, answer if is_first else Completion.from_bytes(stored[job.key]))

    async def _watch_others(self) -> None:
        """Take what other processes answered, and ask for what they gave up."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._elsewhere:
                granted, self._elsewhere = self._claim(self._elsewhere)
                self._wake_in_pause()
                self._submit_again(granted)


class _GroupWindow(_Window):
    """A window whose jobs on the wire are groups; each sample has a job of its own besides, for its answer."""

    def __init__(
        self,
        requests: Iterator[Request],
        ask: Ask,
        identity: Mapping[str, Any],
        environment: Environment,
        loop: asyncio.AbstractEventLoop,
        size: int,
    ) -> None:
        super().__init__(requests, ask, identity, environment, loop)
        self._groups = Groups(requests, size)
        self._size = size

    def _n_held(self) -> int:
        return len(self._held) // self._size

    def _hold(self, n: int) -> bool:
        batch = list(islice(self._groups, n))
        new: dict[bytes, Job] = {}  # by the first key that is new, which no other group has
        for requests in batch:
            keys = [request.key(self._identity) for request in requests]
            fresh = [key for key in keys if key not in self._jobs]
            self._jobs |= {key: Job(request, key) for request, key in zip(requests, keys, strict=True) if key in fresh}
            jobs = tuple(self._jobs[key] for key in keys)
            self._held.extend(zip(requests, jobs, strict=True))
            if fresh:
                new[fresh[0]] = Job(requests[0], keys[0], group=jobs)
        self._claim_new(new)
        return bool(batch)

    def _claim(self, jobs: Mapping[bytes, Job]) -> tuple[dict[bytes, Job], dict[bytes, Job]]:
        samples = {one.key: one for job in jobs.values() for one in job.group}
        claimed = self._ledger.claim(samples)
        self._answer_from_ledger({key: one for key, one in samples.items() if one.answer is None}, claimed.answered)
        granted: dict[bytes, Job] = {}
        taken: dict[bytes, Job] = {}
        for key, job in jobs.items():
            keys = {one.key for one in job.group}
            if keys & set(claimed.taken):  # hold nothing while another process has a part of the group
                self._ledger.release(keys & set(claimed.granted))
                taken[key] = job
            elif not keys <= claimed.answered.keys():
                granted[key] = job
        return granted, taken
