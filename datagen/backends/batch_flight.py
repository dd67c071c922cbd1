"""Requests on their way through batches: cut, sent, waited for, and accounted for row by row.

An answer enters the ledger. A row that its batch left without one because it expired, or for a reason that may pass, is
asked again in a next batch, up to `max_row_tries`; any other, and the rows of a batch that somebody cancelled, end as
failures. Batches of an earlier run that hold a wanted request are adopted; those that hold none are fetched at the end
if they are done, so that no paid answer is left to expire at the server.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from pydantic import Field
from pydantic.config import JsonDict

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request
from datagen.backends.batch_files import URL_PATH, Refused, left_over, read_rows, request_line
from datagen.backends.batch_journal import Journal, Record, explained
from datagen.backends.batch_server import ENDED, BatchServer, Gone
from datagen.backends.budget import Purchase, most_tokens
from datagen.backends.chat_format import extra_body_of, with_remedy
from datagen.backends.endpoint_params import Endpoint
from datagen.contracts.errors import BackendError

ROWS_A_TRANSACTION = 1000
LOOK_ELSEWHERE_S = 0.5  # between two looks at what other processes ask for
POLL_GROWTH = 1.5
_CONNECTION: JsonDict = {"connection": True}

log = logging.getLogger(__name__)


class BatchParams(Endpoint):
    """Limits of a batch, and how it is waited for; nothing of it is part of a request's key.

    `batch_price_share` is what a batch costs of the given prices. As many as `max_batches` are on their way at once,
    and their requests are held in memory.
    """

    batch_price_share: float = Field(0.5, ge=0, le=1)
    max_requests_per_batch: int = Field(50_000, ge=1, json_schema_extra=_CONNECTION)
    max_bytes_per_batch: int = Field(200_000_000, ge=1, json_schema_extra=_CONNECTION)
    max_batches: int = Field(4, ge=1, json_schema_extra=_CONNECTION)
    completion_window: str = Field("24h", json_schema_extra=_CONNECTION)
    max_row_tries: int = Field(3, ge=1, json_schema_extra=_CONNECTION)  # batches that a row may be in, in one run
    poll_s: float = Field(10.0, gt=0, json_schema_extra=_CONNECTION)  # before the first look; each next is later
    max_poll_s: float = Field(300.0, gt=0, json_schema_extra=_CONNECTION)
    max_wait_s: float = Field(100_000.0, gt=0, json_schema_extra=_CONNECTION)  # for one batch, above the API's day
    max_tries: int = Field(8, ge=1, json_schema_extra=_CONNECTION)  # of one call that fails
    # how long a creation without an answer may still be on its way to the server
    adopt_wait_s: float = Field(30.0, ge=0, json_schema_extra=_CONNECTION)
    timeout_s: float = Field(600.0, gt=0, json_schema_extra=_CONNECTION)  # of one call
    connect_timeout_s: float = Field(10.0, gt=0, json_schema_extra=_CONNECTION)


class _Batch:
    """One that is at the server: its record, what was set aside for its rows, and when it is looked at next."""

    def __init__(self, record: Record, purchases: Mapping[bytes, Purchase], poll_s: float) -> None:
        self.record = record
        self.purchases = purchases
        self.poll_s = poll_s
        self.since = time.monotonic()
        self.next_look = self.since + poll_s


class Flight:
    """The requests held, and the batches that they are in. Used by one thread."""

    def __init__(
        self, config: BatchParams, environment: Environment, server: BatchServer, journal: Journal,
        runner: asyncio.Runner, identity: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._config, self._environment, self._server = config, environment, server
        self._journal, self._run, self._identity = journal, runner.run, identity
        self._ledger = environment.ledger
        self._held: deque[tuple[Request, bytes]] = deque()
        self._n_held: Counter[bytes] = Counter()  # how often each key is
        self._waiting: dict[bytes, Request] = {}  # of these, those without an outcome
        self._queue: dict[bytes, Request] = {}  # claimed, for the next batch
        self._elsewhere: dict[bytes, Request] = {}  # asked for by another process
        self._in_batch: set[bytes] = set()  # of all open batches, whoever wants them
        self._failed: dict[bytes, Failure] = {}
        self._asked: set[bytes] = set()  # by this run
        self._n_tries: Counter[bytes] = Counter()
        self._batches: list[_Batch] = []

    def outcomes(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order."""
        remaining, n, is_drained = iter(requests), self._config.max_requests_per_batch, False
        try:
            while True:
                while not is_drained and len(self._held) <= n * (self._config.max_batches - 1):
                    block = list(islice(remaining, n))
                    is_drained = len(block) < n
                    self._place(block)
                    self._send()
                    yield from self._settled()
                if is_drained and not self._held:
                    break
                self._wait()
                self._send()
                yield from self._settled()
            self._fetch_strays()
        finally:
            self.close()

    def close(self) -> None:
        """Leave what is at the server to the journal, and give up every claim."""
        for batch in self._batches:
            batch.record.close()
            self._environment.budget.settle(batch.purchases.values())
        self._ledger.release({*self._in_batch, *self._queue})
        for held in (self._batches, self._in_batch, self._queue):
            held.clear()

    def _place(self, block: Iterable[Request]) -> None:
        new: dict[bytes, Request] = {}
        for request in block:
            key = request.key(self._identity)
            if not self._n_held[key]:
                new[key] = request
            self._n_held[key] += 1
            self._held.append((request, key))
        keys, answered = iter(new), set[bytes]()  # most keys of a rerun need no claim, which costs more
        while some := list(islice(keys, ROWS_A_TRANSACTION)):  # a block's answers may not fit into memory
            answered |= self._ledger.get_many(some).keys()
        missing = {key: request for key, request in new.items() if key not in answered}
        self._waiting |= missing
        self._claim({key: request for key, request in missing.items() if key not in self._in_batch})

    def _claim(self, wanted: Mapping[bytes, Request]) -> None:
        """Sort what is wanted: answered, ours to ask for, in a batch already, or asked for by another process."""
        if not wanted:
            return
        claimed = self._ledger.claim(wanted)
        granted = set(claimed.granted)
        if granted:  # read after the claim: whoever held these before has written down its batch by now
            try:
                for record in self._journal.adopt(granted):
                    self._adopt(record)
                self._journal.check_endpoint(granted)
            except BaseException:
                self._ledger.release(granted)
                raise
            others = self._journal.elsewhere(granted) - self._in_batch
            self._ledger.release(others)
            granted -= others | self._in_batch
        for key, request in wanted.items():
            self._elsewhere.pop(key, None)
            if key in claimed.answered:
                self._waiting.pop(key, None)
            elif key in granted:
                self._queue[key] = request
            elif key not in self._in_batch:
                self._elsewhere[key] = request

    def _adopt(self, record: Record) -> None:
        if record.batch_id is None:
            found = self._run(self._server.wait_and_find(record.file_id, record.token))
            if found is None:  # the batch was never created
                record.remove()
                return
            record.acknowledge(str(found["id"]))
        log.info("batch %s of an earlier run is waited for: %d requests", record.batch_id, len(record.keys))
        self._environment.count("batches_adopted")
        self._ledger.claim(record.keys)
        self._in_batch.update(record.keys)
        self._batches.append(_Batch(record, {}, poll_s=0.0))

    def _send(self) -> None:
        """Cut the queue into batches while there may be more of them."""
        while self._queue and len(self._batches) < self._config.max_batches:
            with explained(self._journal.folder), TemporaryFile(dir=self._journal.folder) as file:
                purchases = self._write_input(file)
                if not purchases:
                    break
                self._create(file, purchases)

    def _write_input(self, file: BinaryIO) -> dict[bytes, Purchase]:
        """Write rows from the queue's front that fit the limits and the budget; returns what is set aside for each."""
        config, budget = self._config, self._environment.budget
        purchases: dict[bytes, Purchase] = {}
        n_bytes = 0
        for key, request in list(islice(self._queue.items(), config.max_requests_per_batch)):
            if request.prompt is not None:
                detail = f"a batch's rows go to {URL_PATH}, which takes messages alone; take openai_api or vllm_server"
                self._fail(key, Failure(reason="raw_prompt", detail=detail))
                continue
            extra = extra_body_of(request, config.extra_body)
            try:
                line = request_line(request, key, config, extra)
            except (ValueError, RecursionError) as error:
                self._fail(key, Failure(reason="bad_tools", detail=f"tools or tool_calls are not JSON ({error})"))
                continue
            if len(line) > config.max_bytes_per_batch:
                detail = f"{len(line)} bytes, max_bytes_per_batch is {config.max_bytes_per_batch}"
                self._fail(key, Failure(reason="too_large", detail=detail))
                continue
            if n_bytes + len(line) > config.max_bytes_per_batch:
                break
            taken = budget.take([most_tokens(request.said, request.tools, request.sampling.max_new_tokens, extra)])
            if not taken:
                if not purchases and not self._batches:
                    raise budget.exceeded()
                break
            purchases[key] = taken[0]
            n_bytes += file.write(line)
        return purchases

    def _create(self, file: BinaryIO, purchases: Mapping[bytes, Purchase]) -> None:
        """Upload, write down, create, acknowledge: in this order, so that a kill between any two loses nothing."""
        keys = list(purchases)
        record: Record | None = None
        try:
            file_id = self._run(self._server.upload(file))
            epoch = self._queue[keys[0]].sampling.cache_epoch
            record = self._journal.write(file_id, keys, epoch)
            created = self._run(self._server.create(file_id, record.token, window=self._config.completion_window))
            record.acknowledge(str(created["id"]))
        except BaseException:
            if record is None:
                _free(purchases.values())
            else:  # the batch may be there: the next run looks
                record.close()
            self._environment.budget.settle(purchases.values())
            raise
        self._environment.count("requests", len(keys))
        self._environment.count("batches")
        log.info("batch %s is created: %d requests", record.batch_id, len(keys))
        self._batches.append(_Batch(record, purchases, self._config.poll_s))
        self._in_batch.update(keys)
        self._asked.update(keys)
        for key in keys:
            del self._queue[key]

    def _wait(self) -> None:
        """Until something is due, and then look at it."""
        looks = [batch.next_look for batch in self._batches]
        if self._elsewhere:
            looks.append(time.monotonic() + LOOK_ELSEWHERE_S)
        if looks and (seconds := min(looks) - time.monotonic()) > 0:
            self._run(asyncio.sleep(seconds))
        for batch in [one for one in self._batches if one.next_look <= time.monotonic()]:
            self._look(batch)
        self._claim(dict(self._elsewhere))

    def _look(self, batch: _Batch) -> None:
        state, config, now = self._state(batch.record), self._config, time.monotonic()
        if state["status"] in ENDED:
            self._batches.remove(batch)
            self._end(batch, state)
        elif now - batch.since > config.max_wait_s:
            raise BackendError(
                f"batch {batch.record.batch_id} is still {state['status']} after max_wait_s={config.max_wait_s:g}; it "
                "is noted: run again to wait on, nothing is asked twice"
            )
        else:
            batch.poll_s = min(config.max_poll_s, max(config.poll_s, batch.poll_s * POLL_GROWTH))
            batch.next_look = now + batch.poll_s

    def _state(self, record: Record) -> dict[str, Any]:
        try:
            return self._run(self._server.get(str(record.batch_id)))
        except Gone as error:
            raise BackendError(
                f"batch {record.batch_id} with {len(record.keys)} requests is not at the server ({error}); set the key "
                f"that made it, or remove {record.path} to buy them again"
            ) from None

    def _end(self, batch: _Batch, state: Mapping[str, Any]) -> None:
        """Account for every row of a batch that has ended; its record goes once the answers are on disk."""
        record = batch.record
        outstanding = dict.fromkeys(record.keys)
        try:
            for file_id in filter(None, (state.get("output_file_id"), state.get("error_file_id"))):
                with explained(self._journal.folder), TemporaryFile(dir=self._journal.folder) as file:
                    self._download(str(file_id), file, record)
                    self._store(file, batch, outstanding)
            if state["status"] != "completed":  # there, a row that is missing may have been billed
                _free(purchase for key in outstanding if (purchase := batch.purchases.get(key)))
            left = left_over(state, record.keys, outstanding)
        except Refused:
            record.remove()
            raise
        finally:
            self._environment.budget.settle(batch.purchases.values())
            record.close()
        record.remove()
        self._in_batch.difference_update(record.keys)
        for key, (failure, may_pass) in left.items():
            self._conclude(key, failure, may_pass)
        self._ledger.release(record.keys)

    def _download(self, file_id: str, file: BinaryIO, record: Record) -> None:
        try:
            self._run(self._server.download(file_id, file))
        except Gone as error:
            raise BackendError(
                f"batch {record.batch_id} has ended, but its file {file_id} is not at the server ({error}); remove "
                f"{record.path} to buy its {len(record.keys)} requests again"
            ) from None
        file.seek(0)

    def _store(self, lines: Iterable[bytes], batch: _Batch, outstanding: dict[bytes, None]) -> None:
        """The rows of one file, each key's first; answers are on disk before anybody is told of them."""
        count = self._environment.count
        rows = read_rows(map(self._server.without_key, lines), unreadable=lambda: count("batch_rows_unreadable"))
        while block := list(islice(rows, ROWS_A_TRANSACTION)):
            fresh = {row.key: row for row in reversed(block) if row.key in outstanding}
            answers = {key: row.answer for key, row in fresh.items() if isinstance(row.answer, Completion)}
            self._ledger.put_many({key: answer.to_bytes() for key, answer in answers.items()}, batch.record.epoch)
            count("prompt_tokens", sum(row.reply.n_prompt_tokens or 0 for row in fresh.values() if row.reply))
            count("completion_tokens", sum(row.reply.n_completion_tokens or 0 for row in fresh.values() if row.reply))
            for key, row in fresh.items():
                del outstanding[key]
                if key in batch.purchases:
                    row.price(batch.purchases[key], self._waiting[key])
                self._conclude(key, row.answer, row.may_pass)

    def _conclude(self, key: bytes, answer: Completion | Failure, may_pass: bool) -> None:
        """An answer, a failure, or another try; what nobody here wants has no outcome."""
        if (request := self._waiting.get(key)) is None:
            return
        if isinstance(answer, Completion):
            del self._waiting[key]
            return
        self._n_tries[key] += 1
        if may_pass and self._n_tries[key] < self._config.max_row_tries:
            self._environment.count("rows_asked_again")
            self._elsewhere[key] = request  # to be claimed anew once its batch has let go of it
            return
        tries = f"{self._n_tries[key]} batches, the last: " if may_pass else ""
        self._fail(key, with_remedy(Failure(reason=answer.reason, detail=f"{tries}{answer.detail}"), request))

    def _fail(self, key: bytes, failure: Failure) -> None:
        self._failed[key] = failure
        del self._waiting[key]
        if self._queue.pop(key, None):
            self._ledger.release([key])

    def _settled(self) -> Iterator[Outcome]:
        """The outcomes at the front."""
        while self._held and self._held[0][1] not in self._waiting:
            block: list[tuple[Request, bytes]] = []
            while self._held and len(block) < ROWS_A_TRANSACTION and self._held[0][1] not in self._waiting:
                block.append(self._held.popleft())
            stored = self._ledger.get_many({key for _, key in block if key not in self._failed})
            for request, key in block:
                answer = self._failed.get(key) or Completion.from_bytes(stored[key])
                asked = key in self._asked
                self._forget(key)
                self._environment.count("ledger_hits", 0 if asked else 1)
                yield Outcome(request=request, key=key, answer=answer, from_ledger=not asked)

    def _forget(self, key: bytes) -> None:
        self._asked.discard(key)  # a second request of this key asked nothing
        self._n_held[key] -= 1
        if not self._n_held[key]:
            for held in (self._n_held, self._failed, self._n_tries):
                held.pop(key, None)

    def _fetch_strays(self) -> None:
        """Store what batches of earlier runs hold, where they are done; a server that fails now loses nothing."""
        for record in self._journal.adopt():
            try:
                if len(self._ledger.get_many(record.keys)) == len(record.keys):
                    record.remove()
                elif self._is_created(record):
                    state = self._state(record)
                    if state["status"] in ENDED:
                        self._end(_Batch(record, {}, poll_s=0.0), state)
                    else:
                        log.info("batch %s of another run is still %s", record.batch_id, state["status"])
            except BackendError as error:
                log.warning("a batch of another run stays as it is: %s", error)
            finally:
                record.close()

    def _is_created(self, record: Record) -> bool:
        if record.batch_id is None and (found := self._run(self._server.find(record.file_id, record.token))):
            record.acknowledge(str(found["id"]))
        return record.batch_id is not None


def _free(purchases: Iterable[Purchase]) -> None:
    for purchase in purchases:
        purchase.free()
