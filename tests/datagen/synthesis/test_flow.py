"""Oracles: what a plain loop, one source after another, one call after another, would ask and write."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from datagen.backends.base import Completion, Failure, Request, Sampling
from datagen.contracts.records import Document, Rejection
from datagen.synthesis.flow import Dropped, Flow, Setting, Written, run_flows
from tests.drawing import BACKENDS, Drawing

SAMPLING = Sampling(seed=3, max_new_tokens=100)
SOURCES = [Document(id=f"s{i}", text=str(i)) for i in range(23)]


def n_children(i: int) -> int:
    return random.Random(i).choice([0, 1, 2, 5, 11])


def answer(request: Request) -> Completion | Failure:
    """`make N` is answered by N names, `say X` by X backwards, but where X ends on 3 not at all."""
    verb, _, what = (request.messages[0].get("content") or "").partition(" ")
    if verb == "make":
        return Completion(text=" ".join(f"{what}.{k}" for k in range(n_children(int(what)))))
    if what.endswith("3"):
        return Failure(reason="http_500", detail="the server fell over")
    return Completion(text=what[::-1])


class Backend(Drawing):
    """Gives the answers of this file."""

    def __init__(self, ahead: int, piece: int, patient: bool) -> None:
        super().__init__(ahead, piece, patient, answer)


async def two_steps(source: Document, flow: Flow) -> list[Document]:
    """Names, then each name said twice: what came of both, and which name was first in its turn."""
    names = (await flow.ask("make", source.id, [{"role": "user", "content": f"make {source.text}"}])).text.split()
    if not names:
        raise Dropped("no_names", "the teacher named nobody")

    async def said(name: str) -> Document:
        ask = [flow.ask(f"say{k}", name, [{"role": "user", "content": f"say {name}"}]) for k in range(2)]
        first, second = await asyncio.gather(*ask)
        flow.put("said", Document(id=name, text=first.text))
        return Document(id=name, text=first.text + second.text)

    return await flow.each(names, said, id=lambda name: name)


def plain(sources: Sequence[Document]) -> tuple[Counter[str], list[Document], list[tuple[str, str]]]:
    """Requests by content, rows, and rejections of `two_steps`."""
    asked: Counter[str] = Counter()
    rows: list[Document] = []
    dropped: list[tuple[str, str]] = []
    for source in sources:
        asked[f"make {source.text}"] += 1
        n = n_children(int(source.text))
        if not n:
            dropped.append((source.id, "no_names"))
        for k in range(n):
            name = f"{source.text}.{k}"
            asked[f"say {name}"] += 2
            if name.endswith("3"):
                dropped.append((name, "http_500"))
            else:
                rows.append(Document(id=name, text=2 * name[::-1]))
    return asked, rows, dropped


def ids(written: Sequence[Written]) -> list[str]:
    return [row.id for one in written for row in one.rows if isinstance(row, Document)]


def written_by(backend: Backend, sources: Sequence[Document] = SOURCES, window: int = 4) -> list[Written]:
    return list(
        run_flows(two_steps, sources, backend.generate, Setting(stage="corpus", sampling=SAMPLING, window=window))
    )


@pytest.mark.parametrize(("ahead", "piece", "patient"), BACKENDS)
@pytest.mark.parametrize("window", [1, 4, 100])
def test_all_is_asked_and_written_as_by_a_plain_loop(ahead: int, piece: int, patient: bool, window: int):
    backend = Backend(ahead, piece, patient)
    written = written_by(backend, window=window)
    asked, rows, dropped = plain(SOURCES)
    assert [one.source for one in written] == SOURCES
    assert Counter(request.messages[0].get("content") for request in backend.asked) == asked
    assert [row for one in written for row in one.rows] == rows
    assert [(row.id, row.reason) for one in written for row in one.rejections] == dropped
    assert all(row.stage == "corpus" for one in written for row in one.rejections)
    tables = [row for one in written for row in one.tables["said"]]
    assert [(row.id, 2 * row.text) for row in tables] == [(row.id, row.text) for row in rows]


def test_calls_are_counted_by_step():
    counts = sum((one.counts for one in written_by(Backend(8, 8, True))), Counter[str]())
    n_names = sum(n_children(i) for i in range(len(SOURCES)))
    assert counts == {"calls.make": len(SOURCES), "calls.say0": n_names, "calls.say1": n_names}


def test_each_call_has_a_seed_of_its_own_that_names_step_and_row():
    backends = [Backend(1, 1, True), Backend(64, 16, False)]
    seeds: list[set[tuple[str | None, int]]] = []
    for backend in backends:
        written_by(backend)
        seeds.append({(one.messages[0].get("content"), one.sampling.seed) for one in backend.asked})
        assert len({one.sampling.seed for one in backend.asked}) == len(backend.asked)
    assert seeds[0] == seeds[1]


def test_a_backend_that_makes_batches_draws_the_same_every_time():
    first, again = Backend(16, 16, False), Backend(16, 16, False)
    written_by(first)
    written_by(again)
    assert [one.messages for one in first.asked] == [one.messages for one in again.asked]


def test_no_more_sources_are_open_than_the_window_holds():
    open_now = most = 0

    async def slow(source: Document, flow: Flow) -> list[Document]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        for k in range(1 + int(source.text) % 3):
            await flow.ask(f"say{k}", source.id, [{"role": "user", "content": "say 1"}])
        open_now -= 1
        return []

    setting = Setting(stage="corpus", sampling=SAMPLING, window=5)
    assert len(list(run_flows(slow, SOURCES, Backend(64, 8, True).generate, setting))) == len(SOURCES)
    assert most == 5 and open_now == 0


class Seen:
    """What was observed when each source started."""

    def __init__(self) -> None:
        self.observed: list[str] = []
        self.at_start: dict[str, list[str]] = {}
        self.turns: list[str] = []

    def observe(self, rows: Sequence[Document]) -> None:
        self.observed += [row.id for row in rows]


@pytest.mark.parametrize(("ahead", "piece", "patient"), BACKENDS)
def test_memory_holds_the_sources_a_window_back_and_no_later_one(ahead: int, piece: int, patient: bool):
    """Turns are taken in order of the sources, though later sources have their answers first."""
    memory, window = Seen(), 4

    async def remembering(source: Document, flow: Flow) -> list[Document]:
        i = int(source.text)
        memory.at_start[source.id] = list(flow.memory.observed)
        for k in range(3 - i % 3):
            await flow.ask(f"say{k}", source.id, [{"role": "user", "content": "say 1"}])
        if i % 5 == 4:
            raise Dropped("left_out", "without a turn")
        async with flow.turn():
            memory.turns.append(source.id)
        return [Document(id=source.id, text="x")]

    setting = Setting(stage="corpus", sampling=SAMPLING, window=window, memory=memory)
    written = list(run_flows(remembering, SOURCES, Backend(ahead, piece, patient).generate, setting))
    kept = [source.id for i, source in enumerate(SOURCES) if i % 5 != 4]
    assert memory.turns == kept == ids(written)
    for i, source in enumerate(SOURCES):
        assert memory.at_start[source.id] == [id for id in kept if int(id[1:]) <= i - window]
    assert memory.observed == kept


def test_a_source_without_a_call_is_done_at_once():
    async def silent(source: Document, flow: Flow) -> list[Document]:
        if int(source.text) % 2:
            raise Dropped("odd", "not asked")
        return [source]

    setting = Setting(stage="corpus", sampling=SAMPLING, window=3)
    written = list(run_flows(silent, SOURCES, Backend(8, 8, False).generate, setting))
    assert ids(written) == [f"s{i}" for i in range(0, 23, 2)]
    rejections: list[Rejection] = [row for one in written for row in one.rejections]
    assert [(row.id, row.reason) for row in rejections] == [(f"s{i}", "odd") for i in range(1, 23, 2)]


def test_waiting_for_anything_else_ends_the_run():
    async def stuck(source: Document, flow: Flow) -> list[Document]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(RuntimeError, match="no answer"):
        list(run_flows(stuck, SOURCES, Backend(8, 8, True).generate, Setting(stage="corpus", sampling=SAMPLING)))


def test_an_error_of_a_method_ends_the_run_and_is_told():
    async def broken(source: Document, flow: Flow) -> list[Document]:
        await flow.ask("say", source.id, [{"role": "user", "content": "say 1"}])
        raise KeyError(source.id)

    with pytest.raises(KeyError, match="s0"):
        list(run_flows(broken, SOURCES, Backend(8, 8, True).generate, Setting(stage="corpus", sampling=SAMPLING)))


def test_a_schema_reaches_the_backend_only_where_it_guides():
    async def ask(source: Document, flow: Flow) -> list[Document]:
        await flow.ask("say", source.id, [{"role": "user", "content": "say 1"}], schema="{}", max_new_tokens=7)
        return []

    for guided, sent in ((True, "{}"), (False, None)):
        backend = Backend(1, 1, True)
        list(run_flows(ask, SOURCES[:1], backend.generate, Setting(stage="corpus", sampling=SAMPLING, guided=guided)))
        assert [(one.response_schema, one.sampling.max_new_tokens) for one in backend.asked] == [(sent, 7)]
