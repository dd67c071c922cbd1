"""Answers from any server that speaks OpenAI's chat completions API, vLLM included.

Source: the API reference of POST /v1/chat/completions, and for raw prompts of POST /v1/completions. Back-off with equal
jitter: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.

Several samples may share a request (`choices_per_request`): `choices` says which do, and what each of them cost.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import aiohttp
from pydantic import Field, ValidationInfo, field_validator

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request
from datagen.backends.budget import Purchase, most_tokens
from datagen.backends.chat_format import (
    WrongChoices,
    answer_or_failure,
    error_message,
    extra_body_of,
    parse_choices,
    parse_completion,
    request_body,
    retry_after_s,
    with_remedy,
)
from datagen.backends.choices import share_usage, total
from datagen.backends.endpoint_params import (
    CONNECTION,
    MIN_SECRET_CHARS,
    Endpoint,
    checked_url,
    endpoint_identity,
    read_api_key,
)
from datagen.backends.endpoints import Replica, Replicas, parse_load
from datagen.backends.in_flight import Ask, Job, Reply, answer_in_order, loop_thread, run_in
from datagen.contracts.errors import BackendError, ParamsError

FIRST_BACKOFF_S = 0.5  # doubled for each attempt that failed
LAST_BACKOFF_S = 60.0
NCONNECTION_TRIES = 3  # before a server that never accepted a connection counts as not running
N_MODELS_SHOWN = 10
METRICS_EVERY_S = 2.0
GATEWAY_STATUSES = frozenset({502, 504, *range(520, 525)})  # what became of the request behind it is unknown
_TOO_MANY_LOGPROBS = re.compile(r"logprobs of (-?\d+), which is greater than max allowed: (\d+)")  # vLLM's words
_CONTEXT_OVERFLOW = re.compile(r"context[ _]length|maximum context|too many tokens", re.IGNORECASE)


class Config(Endpoint):
    """How requests are sent there; but for `choices_per_request` nothing of it is part of a request's key.

    `choices_per_request` samples of one conversation are asked for at once, as `n` with the first one's seed, so the
    prompt is paid once for them. They are other samples than those of a request each: above 1 it is part of the key. A
    prompt's last request may ask for fewer; until_verified needs rounds of a multiple. Where a reply lacks a choice,
    its sample fails (`missing_choice`), and a rerun asks for the group again; the answers that came stay. A reply with
    choices that were not asked for fails them all (`bad_body`), without another try, which would be paid too.

    `base_urls` are more addresses that serve the same model; requests go to the least loaded.
    """

    backend: Literal["openai_api"]
    choices_per_request: int = Field(1, ge=1, json_schema_extra={"unless_default": True})
    base_urls: tuple[str, ...] = Field((), json_schema_extra=CONNECTION)
    max_tries: int = Field(8, ge=1, json_schema_extra=CONNECTION)  # those that a rate limit ended do not count
    # from a request's first 429 until it is given up
    max_rate_limited_s: float = Field(600.0, ge=0, json_schema_extra=CONNECTION)
    # of one attempt, from connecting to the last byte
    timeout_s: float = Field(600.0, gt=0, json_schema_extra=CONNECTION)
    connect_timeout_s: float = Field(10.0, gt=0, json_schema_extra=CONNECTION)
    # without a byte, the first or the next; a server that does not stream is silent until it has the whole answer
    first_byte_timeout_s: float = Field(600.0, gt=0, json_schema_extra=CONNECTION)

    @field_validator("base_urls")
    @classmethod
    def _check_base_urls(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and not info.data.get("provider"):
            raise ValueError("needs provider, which names the model's servers in a request's key, whichever answers")
        return tuple(map(checked_url, value))


@contextmanager
def openai_api(
    config: Config,
    environment: Environment,
    *,
    identity: Mapping[str, Any] | None = None,
    around: Callable[[Ask], Ask] = lambda ask: ask,
    locate: Callable[[], str] | None = None,
) -> Iterator["_Backend"]:
    """Open the backend; the first request shows whether the server is there, takes the key and has the model.

    A backend that runs its own server gives `identity`, which stands for this one's, `around`, which wraps every
    attempt, and `locate`, which says at each what base_url is by then.

    Raises:
        ParamsError: a parameter holds the API key, no HTTP header can, or a budget could not hold.
    """
    api_key = read_api_key(config)
    environment.budget.check(config.extra_body)
    with loop_thread() as loop, ExitStack() as on_exit:
        session = run_in(loop, _open_session(config, api_key))
        on_exit.callback(lambda: run_in(loop, session.close()))
        server = _Server(config, environment, api_key, session, locate)
        on_exit.callback(lambda: run_in(loop, server.close()))
        n = config.choices_per_request
        choices = {"choices_per_request": n} if n > 1 else {}
        identity = {**(identity or endpoint_identity(config)), **choices}
        yield _Backend(identity, environment, around(server.ask), loop, on_exit, n)


async def _open_session(config: Config, api_key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
        timeout=aiohttp.ClientTimeout(
            total=config.timeout_s,
            sock_connect=config.connect_timeout_s,
            # a timer for each read, where it can come before the whole answer's
            sock_read=config.first_byte_timeout_s if config.first_byte_timeout_s < config.timeout_s else None,
        ),
    )


class _Backend:
    """A `TextBackend`."""

    def __init__(
        self,
        identity: Mapping[str, Any],
        environment: Environment,
        ask: Ask,
        loop: asyncio.AbstractEventLoop,
        on_exit: ExitStack,
        choices_per_request: int,
    ) -> None:
        self.identity = identity
        self._environment = environment
        self._ask = ask
        self._loop = loop
        self._on_exit = on_exit
        self._choices_per_request = choices_per_request

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order; see `TextBackend`.

        Raises:
            BackendError: the server is not there, or refuses the key, the model or the address.
            ParamsError: samples that share a request were not asked for at once.
        """
        outcomes = answer_in_order(
            requests, self._ask, identity=self.identity, environment=self._environment, loop=self._loop,
            choices_per_request=self._choices_per_request,
        )  # fmt: skip
        self._on_exit.callback(outcomes.close)  # where the consumer failed, its frame still holds them
        return outcomes


class _Retry(Exception):
    """An attempt that may succeed another time.

    `counter` is the kind that run metrics count by, `reason` what the row is rejected with once it is given up.
    """

    def __init__(self, counter: str, reason: str, detail: str, wait_s: float | None = None) -> None:
        super().__init__(detail)
        self.counter, self.reason, self.wait_s = counter, reason, wait_s
        self.goes_elsewhere = False  # another server can take it at once

    @property
    def is_congestion(self) -> bool:
        """Whether it says that the server has more than it can take."""
        return self.reason in {"http_429", "http_503", "timeout"}

    @property
    def is_refusal(self) -> bool:
        """Whether there was no connection, or it was lost."""
        return self.reason == "connection"


class _Server:
    """Makes one attempt at a time and sorts what comes back; nothing it says shows the key."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        api_key: str,
        session: aiohttp.ClientSession,
        locate: Callable[[], str] | None,
    ) -> None:
        self._config = config
        self._locate = locate
        self._environment = environment
        self._api_key = api_key
        self._session = session
        self._jitter = random.Random()
        self._has_connected = False
        urls = dict.fromkeys((config.base_url, *config.base_urls))
        self._replicas = Replicas([Replica(url, environment.concurrency) for url in urls])
        self._watched: dict[Replica, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Stop watching the servers."""
        for task in self._watched.values():
            task.cancel()
        await asyncio.gather(*self._watched.values(), return_exceptions=True)

    async def ask(self, job: Job) -> Reply:
        """One attempt."""
        config, n_choices = self._config, len(job.group) or 1
        if config.logprobs and job.request.prompt is not None:
            raise ParamsError("logprobs: none are read for raw prompts; leave logprobs and top_logprobs out")
        extra_body = extra_body_of(job.request, config.extra_body)
        try:
            body = request_body(
                job.request, model=config.model, logprobs=config.logprobs, extra_body=extra_body, n_choices=n_choices
            )
        except (ValueError, RecursionError) as error:
            return Failure(reason="bad_tools", detail=f"the row's tools or tool_calls are not JSON ({error})")
        request, budget = job.request, self._environment.budget
        n_new = request.sampling.max_new_tokens
        most = most_tokens(request.said, request.tools, n_new, extra_body, n_choices)
        try:
            async with budget.purchase(most) as purchase:
                return await self._ask_a_replica(body, job, purchase)
        except _Retry as retry:
            return self._wait_429(job, retry) if retry.counter == "429" else self._wait(job, retry)

    async def _ask_a_replica(self, body: bytes, job: Job, purchase: Purchase) -> Reply:
        replica = await self._replicas.take()
        if self._locate and (base_url := self._locate()) != replica.base_url:
            replica.move(base_url)
        self._environment.count("in_flight")
        clock = asyncio.get_running_loop().time
        sent_at = clock()
        try:
            answer = await self._attempt(body, replica, job, purchase)
            replica.answered(sent_at, clock(), self._config.timeout_s)
            return answer
        except _Retry as retry:
            n_cuts = replica.n_cuts
            if retry.is_congestion:
                replica.rejected(sent_at, clock())
            if retry.is_refusal:
                replica.refused(clock())
                retry.goes_elsewhere = self._replicas.is_another_up(replica, clock())
            self._environment.count("limit_cuts", replica.n_cuts - n_cuts)
            raise
        finally:
            self._environment.count("in_flight", -1)
            self._replicas.give_back(replica)

    async def _attempt(self, body: bytes, replica: Replica, job: Job, purchase: Purchase) -> Reply:
        self._environment.count("requests")
        url = replica.chat_url if job.request.prompt is None else replica.completions_url
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                self._has_connected = True
                reply = self._without_key(await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            purchase.free()
            raise _Retry("connection", "connection", f"no connection ({error})") from None
        except TimeoutError:
            raise _Retry("connection", "timeout", f"no whole answer within {self._config.timeout_s:g} s") from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            raise _Retry("body", "bad_body", f"broken reply ({type(error).__name__})") from None
        except aiohttp.ClientError as error:
            self._has_connected = True
            raise _Retry("connection", "connection", f"connection lost: {error}") from None
        if response.status == 200:
            if replica not in self._watched and response.headers.get("Server", "").startswith("uvicorn"):
                self._watched[replica] = asyncio.create_task(self._watch(replica))
            parse = self._parse_choices if job.group else self._parse
            return parse(reply, job, purchase)
        if response.status not in GATEWAY_STATUSES:
            purchase.free()
        return with_remedy(await self._sort_error(response.status, response.headers, reply, replica), job.request)

    async def _watch(self, replica: Replica) -> None:
        """Read vLLM's metrics now and then, for as long as it gives some; one that is away may come back."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with self._session.get(replica.metrics_url, allow_redirects=False) as response:
                    load = parse_load(await response.text()) if response.status == 200 else None
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(METRICS_EVERY_S)
                continue
            except ValueError:
                load = None
            if load is None:
                return
            n_cuts = replica.n_cuts
            replica.reported(load, clock())
            self._environment.count("limit_cuts", replica.n_cuts - n_cuts)
            await asyncio.sleep(METRICS_EVERY_S)

    def _parse(self, reply: bytes, job: Job, purchase: Purchase) -> Completion | Failure:
        request = job.request
        try:
            completion = parse_completion(reply)
        except ValueError as error:
            raise _Retry("body", "bad_body", f"reply of status 200: {error}") from None
        purchase.answered(
            completion.n_prompt_tokens, completion.n_completion_tokens, request.said, request.tools,
            completion.text, completion.reasoning, completion.tool_calls,
        )  # fmt: skip
        self._environment.count("prompt_tokens", completion.n_prompt_tokens or 0)
        self._environment.count("completion_tokens", completion.n_completion_tokens or 0)
        return answer_or_failure(completion)

    def _parse_choices(self, reply: bytes, job: Job, purchase: Purchase) -> Reply:
        n_asked = len(job.group)
        try:
            choices = share_usage(parse_choices(reply, n_asked))
        except WrongChoices as error:
            return Failure(reason="bad_body", detail=f"reply of status 200: {error}")
        except ValueError as error:
            raise _Retry("body", "bad_body", f"reply of status 200: {error}") from None
        there = [one for one in choices if one]
        n_prompt = total([one.n_prompt_tokens for one in there])
        n_completion = total([one.n_completion_tokens for one in there])
        texts = (text for one in there for text in (one.text, one.reasoning, one.tool_calls))
        purchase.answered(n_prompt, n_completion, job.request.said, job.request.tools, *texts)
        purchase.estimated *= len(there)
        self._environment.count("prompt_tokens", n_prompt or 0)
        self._environment.count("completion_tokens", n_completion or 0)
        detail = f"the reply has {len(there)} of {n_asked} choices, and not this one; a rerun asks for all again"
        missing = Failure(reason="missing_choice", detail=detail)
        return [answer_or_failure(one) if one else missing for one in choices]

    async def _sort_error(self, status: int, headers: Mapping[str, str], reply: bytes, replica: Replica) -> Failure:
        config = self._config
        said = error_message(reply)
        if status in {401, 403} and not self._api_key:
            raise BackendError(f"{replica.base_url} wants a key: set ${config.api_key_env} ({status}: {said})")
        if status in {401, 403}:
            raise BackendError(f"{replica.base_url} refuses the key in ${config.api_key_env} ({status}: {said})")
        if status == 402 or b"insufficient_quota" in reply:
            raise BackendError(f"{replica.base_url} wants to be paid before it answers ({status}: {said})")
        if status in {404, 405} or 300 <= status < 400:
            raise BackendError(
                f"{replica.base_url} has no model {config.model!r}, or is not the API's base_url "
                f"({status}: {said}){await self._models(replica)}"
            )
        if status == 429:
            raise _Retry("429", "http_429", said, retry_after_s(headers))
        if status >= 500 or status in {408, 409, 425}:
            raise _Retry("5xx", f"http_{status}", said, retry_after_s(headers))
        if beyond := _TOO_MANY_LOGPROBS.search(said):
            raise BackendError(
                f"{replica.base_url} gives at most {beyond[2]} log-probs a token, and {beyond[1]} are asked for; start "
                f"it with `--max-logprobs {beyond[1]}`, or take backend=vllm_server, which does so"
            )
        overflow = _CONTEXT_OVERFLOW.search(said)
        return Failure(reason="context_overflow" if overflow else f"http_{status}", detail=said)

    def _wait(self, job: Job, retry: _Retry) -> Failure | float:
        job.n_failed += 1
        n_tries = min(NCONNECTION_TRIES, self._config.max_tries)
        if retry.reason == "connection" and not self._has_connected and job.n_failed >= n_tries:
            raise BackendError(f"{self._config.base_url}: {retry}; start the server or mend base_url")
        if job.n_failed >= self._config.max_tries:
            return Failure(reason=retry.reason, detail=f"{job.n_failed} attempts, the last: {retry}")
        self._environment.count(f"retries_{retry.counter}")
        if retry.goes_elsewhere:
            return 0.0
        return min(LAST_BACKOFF_S, max(retry.wait_s or 0.0, self._backoff_s(job.n_failed)))

    def _wait_429(self, job: Job, retry: _Retry) -> Failure | float:
        now = asyncio.get_running_loop().time()
        job.first_429 = job.first_429 or now
        job.n_429 += 1
        wait_s = retry.wait_s if retry.wait_s is not None else self._backoff_s(job.n_429)
        if now + wait_s - job.first_429 > self._config.max_rate_limited_s:
            return Failure(
                reason="http_429", detail=f"max_rate_limited_s is over, the server wants {wait_s:g} s: {retry}"
            )
        self._environment.count("retries_429")
        return wait_s

    def _backoff_s(self, n_failed: int) -> float:
        return min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (n_failed - 1)) * self._jitter.uniform(0.5, 1.0)

    async def _models(self, replica: Replica) -> str:
        try:
            async with self._session.get(replica.models_url, allow_redirects=False) as response:
                listed = json.loads(self._without_key(await response.read()))
                names = [str(model["id"]) for model in listed["data"]]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, RecursionError):
            return ""
        more = f" and {len(names) - N_MODELS_SHOWN} more" if len(names) > N_MODELS_SHOWN else ""
        return f"; it has {', '.join(names[:N_MODELS_SHOWN])}{more}"

    def _without_key(self, reply: bytes) -> bytes:
        if len(self._api_key) < MIN_SECRET_CHARS:
            return reply
        for spelling in (self._api_key, self._api_key.replace("/", r"\/")):
            reply = reply.replace(spelling.encode(), b"[key]")
        return reply
