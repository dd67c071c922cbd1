"""Synthesis in several steps, written as plain async functions.

    async def questions(config: Config, source: Document, flow: Flow) -> list[Document]:
        outline = await flow.ask("outline", source.id, [{"role": "user", "content": f"Outline: {source.text}"}])

        async def expand(point: str) -> Document:
            answer = await flow.ask("point", f"{source.id}/{point}", [{"role": "user", "content": f"Explain: {point}"}])
            return Document(id=f"{source.id}/{point}", text=answer.text)

        points = dict.fromkeys(filter(None, map(str.strip, outline.text.splitlines())))
        return await flow.each(points, expand, id=lambda point: f"{source.id}/{point}")

Anything of asyncio may stand in it: `gather`, tasks, locks. Each call goes through the backend and so through the
ledger: a run that was killed buys the rest alone, and a step that is changed asks again for itself and for what reads
its answers. A call without an answer raises `Dropped`, which loses the row that waits for it, and `each` keeps that
from its siblings.

The functions run in the thread that draws the backend's requests, in a loop that stops as soon as all of them wait for
answers. So a backend that makes batches of what it draws, such as local, draws the same on every run. At most `window`
sources are open, in order.
"""

import asyncio
import re
import selectors
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from datagen.backends.base import Completion, Failure, Outcome, Request, Sampling
from datagen.contracts.records import Document, Message, Record, Rejection
from datagen.contracts.seeding import derive_seed

Generate = Callable[[Iterable[Request]], Iterator[Outcome]]
"""A backend's `generate`: lazy, in order."""
Start = Callable[[Document, "Flow"], Coroutine[Any, Any, Sequence[Record]]]
"""A method with its config."""

T = TypeVar("T")
R = TypeVar("R")


class Dropped(Exception):
    """A row is lost: a reason to count by and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(kw_only=True)
class Written:
    """What became of one source.

    Attributes:
        rows: in the method's order.
        rejections: what was dropped on the way, by id.
        tables: rows of the steps, by table, in the order of their ids.
        counts: what the steps counted: calls by step, failures by kind.
    """

    source: Document
    rows: Sequence[Record] = ()
    rejections: list[Rejection] = field(default_factory=list[Rejection])
    tables: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all sources.

    Attributes:
        stage: the name that rejections bear.
        sampling: of the requests; each gets a seed of its own.
        guided: whether requests carry a schema for the backend to hold the answer to.
        teacher: the model's name.
        window: sources open at once; what `memory` knows of is at least so many sources back.
        memory: what the sources share, where the method has such; its `observe` gets the rows of each, in order.
    """

    stage: str
    sampling: Sampling
    guided: bool = False
    teacher: str = ""
    window: int = 32
    memory: Any = None


class Flow:
    """What a method may do for one source.

    Attributes:
        memory: what the sources share; see `Setting` and `turn`.
        guided: whether a schema that is given to `ask` reaches the backend.
        teacher: the model's name.
    """

    def __init__(self, engine: "_Engine", written: Written, position: int) -> None:
        self._engine = engine
        self._written = written
        self._position = position
        self.memory = engine.setting.memory
        self.guided = engine.setting.guided
        self.teacher = engine.setting.teacher

    async def generate(self, request: Request) -> Completion:
        """The backend's answer.

        Raises:
            Dropped: there is none, with the backend's reason.
        """
        outcome = await self._engine.ask(request)
        if isinstance(outcome.answer, Failure):
            raise Dropped(outcome.answer.reason, outcome.answer.detail)
        return outcome.answer

    async def ask(
        self,
        step: str,
        row_id: str,
        messages: Sequence[Message],
        *,
        schema: str | None = None,
        max_new_tokens: int | None = None,
    ) -> Completion:
        """The answer to a step's question about a row, drawn with a seed that derives from both their names.

        Args:
            step: counted by.
            row_id: that the answer is for.
            messages: the conversation up to the answer.
            schema: JSON schema as text, which the backend holds the answer to where `guided` is set.
            max_new_tokens: in place of the section's.

        Raises:
            Dropped: as `generate`; the detail names the step.
        """
        sampling = self._engine.setting.sampling
        own: dict[str, Any] = {"seed": derive_seed(sampling.seed, step, row_id)}
        if max_new_tokens is not None:
            own["max_new_tokens"] = max_new_tokens
        self.count(f"calls.{step}")
        request = Request(
            messages=list(messages),
            sampling=sampling.model_copy(update=own),
            response_schema=schema if self.guided else None,
        )
        try:
            return await self.generate(request)
        except Dropped as dropped:
            raise Dropped(dropped.reason, f"step {step}: {dropped.detail}") from None

    async def each(self, items: Iterable[T], do: Callable[[T], Awaitable[R]], *, id: Callable[[T], str]) -> list[R]:
        """`do` of every item, all at once; what it gave, in order, without the items that were dropped.

        A dropped item becomes a rejection under its id; what `do` raises else ends the run.
        """
        listed = list(items)

        async def guarded(item: T) -> tuple[R] | None:
            try:
                return (await do(item),)
            except Dropped as dropped:
                self.reject(id(item), dropped.reason, dropped.detail)
                return None

        return [one[0] for one in await asyncio.gather(*map(guarded, listed)) if one]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A block that the sources enter one after another, in order, each once; one that ended without it is passed.

        So what is decided in it, such as which text is too near an earlier one, depends on no timing.
        """
        await self._engine.wait_for_turn(self._position)
        try:
            yield
        finally:
            self._engine.pass_turn(self._position)

    def put(self, table: str, row: Any) -> None:
        """Add a row to one of the method's TABLES, a dataclass with a SCHEMA; no other row of the table has its id."""
        self._written.tables[table].append(row)

    def reject(self, id: str, reason: str, detail: str) -> None:
        """Note that a row is dropped."""
        self._written.rejections.append(
            Rejection(id=id, stage=self._engine.setting.stage, reason=reason, detail=detail)
        )

    def count(self, name: str, n: int = 1) -> None:
        """Count for the metrics."""
        self._written.counts[name] += n


def run_flows(start: Start, sources: Iterable[Document], generate: Generate, setting: Setting) -> Iterator[Written]:
    """What became of every source, in order, holding `window` of them.

    A source whose function ends by `Dropped` is a rejection itself.

    Raises:
        RuntimeError: a function waits for something else than an answer or its turn.
    """
    engine = _Engine(start, iter(sources), setting)
    try:
        while not engine.is_over:
            before = engine.progress
            for outcome in generate(engine):
                engine.take(outcome)
                yield from engine.finished()
            engine.settle()
            yield from engine.finished()
            if before == engine.progress:
                raise RuntimeError("a method waits for something that is no answer; it may only await what flow offers")
        engine.observe_rest()
    finally:
        engine.close()


@dataclass(eq=False)
class _Open:
    """A source under way."""

    written: Written
    task: "asyncio.Task[Sequence[Record]]"


class _Engine(Iterator[Request]):
    """The requests of all open sources, as they come up.

    Where every source waits and no more may be opened, this iterator ends for now, and goes on when it is drawn from
    again; a backend that takes the end for final gives the outcomes it holds, and is called again with the rest.
    """

    def __init__(self, start: Start, sources: Iterator[Document], setting: Setting) -> None:
        self.setting = setting
        self._start = start
        self._sources = sources
        self._has_more = True
        self._loop = asyncio.SelectorEventLoop(selector := _StopsWhenIdle())
        selector.loop = self._loop
        self._open: deque[_Open] = deque()  # from the first that is not finished, in order
        self._n_opened = self._n_asked = 0
        self._to_ask: deque[tuple[Request, asyncio.Future[Outcome]]] = deque()
        self._asked: deque[asyncio.Future[Outcome]] = deque()
        self._finished: deque[Written] = deque()  # and not yet given out
        self._unobserved: deque[Written] = deque()
        self._next_turn = 0
        self._passed: set[int] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @property
    def is_over(self) -> bool:
        return not self._has_more and not self._open and not self._finished

    @property
    def progress(self) -> tuple[int, int, int, bool]:
        """Changes with whatever a pass over the backend brings."""
        return self._n_asked, self._n_opened, len(self._open), self._has_more

    def __next__(self) -> Request:
        if not self.has_request():
            raise StopIteration
        request, future = self._to_ask.popleft()
        self._asked.append(future)
        self._n_asked += 1
        return request

    def has_request(self) -> bool:
        """Whether there is one to ask, once as many sources are open as that takes."""
        self.settle()
        while not self._to_ask and self._open_next():
            self.settle()
        return bool(self._to_ask)

    def settle(self) -> None:
        """Let the functions go on until all of them wait, and set aside the sources at the head that are done."""
        self._loop.run_forever()
        while self._open and self._open[0].task.done():
            done = self._open.popleft()
            done.written.rows = self._result(done)
            done.written.rejections.sort(key=lambda row: _natural(row.id))
            for rows in done.written.tables.values():
                rows.sort(key=lambda row: _natural(row.id))
            self._finished.append(done.written)
            self._unobserved.append(done.written)

    def take(self, outcome: Outcome) -> None:
        """Hand over what became of the first request that has no outcome yet."""
        future = self._asked.popleft()
        if not future.cancelled():  # by a function that took the first of several answers
            future.set_result(outcome)

    def finished(self) -> Iterator[Written]:
        """The sources that are done, in order, each once."""
        while self._finished:
            yield self._finished.popleft()

    def _result(self, done: _Open) -> Sequence[Record]:
        try:
            return done.task.result()
        except Dropped as dropped:
            id = done.written.source.id
            row = Rejection(id=id, stage=self.setting.stage, reason=dropped.reason, detail=dropped.detail)
            done.written.rejections.append(row)
            return ()

    def _open_next(self) -> bool:
        if not self._has_more or len(self._open) >= self.setting.window:
            return False
        source = next(self._sources, None)
        if source is None:
            self._has_more = False
            return False
        position = self._n_opened
        if position >= self.setting.window:  # the source `window` before is done, and no later one counts yet
            self._observe(self._unobserved.popleft())
        written = Written(source=source)
        task = self._loop.create_task(self._start(source, Flow(self, written, position)))
        task.add_done_callback(lambda _: self.pass_turn(position))
        self._open.append(_Open(written, task))
        self._n_opened += 1
        return True

    def observe_rest(self) -> None:
        """Those after which no source was opened."""
        while self._unobserved:
            self._observe(self._unobserved.popleft())

    def _observe(self, written: Written) -> None:
        if self.setting.memory is not None:
            self.setting.memory.observe(written.rows)

    def ask(self, request: Request) -> "asyncio.Future[Outcome]":
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._to_ask.append((request, future))
        return future

    async def wait_for_turn(self, position: int) -> None:
        if position in self._passed or position < self._next_turn:
            raise RuntimeError("a source has one turn, and this one has had it")
        if position > self._next_turn:
            self._waiting[position] = self._loop.create_future()
            await self._waiting[position]

    def pass_turn(self, position: int) -> None:
        """The source needs its turn no more."""
        if position >= self._next_turn:
            self._passed.add(position)
        while self._next_turn in self._passed:
            self._passed.remove(self._next_turn)
            self._next_turn += 1
            waiting = self._waiting.pop(self._next_turn, None)
            if waiting and not waiting.done():
                waiting.set_result(None)

    def close(self) -> None:
        """Give up what is under way."""
        tasks = [one.task for one in self._open]
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()


class _StopsWhenIdle(selectors.DefaultSelector):
    """Stops its loop where that would wait for an event: nothing in it can go on by itself."""

    loop: asyncio.AbstractEventLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            self.loop.stop()
            timeout = 0
        return super().select(timeout)


def _natural(id: str) -> list[tuple[str, int]]:
    """Orders `a/10` behind `a/9`."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", id)]
