"""Answers from a server's batch API: the requests of `openai_api` sent as files, answered within a day for less money.

A request has the key that it has with `openai_api`, so an answer bought by either serves both. `batch_journal` says how
a batch outlives this process, and `batch_flight` what becomes of each row. While no batch_api process runs, other
backends know nothing of the batches on their way.

Source: the API reference of /v1/files and /v1/batches, and its guide's limits (50,000 requests and 200 MB a batch) and
price (half).
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import aiohttp

from datagen.backends.base import Environment, Outcome, Request
from datagen.backends.batch_flight import BatchParams, Flight
from datagen.backends.batch_journal import Journal
from datagen.backends.batch_server import BatchServer
from datagen.backends.endpoint_params import endpoint_identity, read_api_key


class Config(BatchParams):
    """A model behind a batch API."""

    backend: Literal["batch_api"]


@contextmanager
def batch_api(config: Config, environment: Environment) -> Iterator["_Backend"]:
    """Open the backend; the first batch shows whether the server is there and takes the key.

    Raises:
        ParamsError: a parameter holds the API key, no HTTP header can, or a budget could not hold.
        BackendError: the journal's folder cannot be written.
    """
    api_key = read_api_key(config)
    environment.budget.check(config.extra_body)
    journal = Journal(environment.ledger.path.parent / "batches", config.base_url)
    with asyncio.Runner() as runner, ExitStack() as on_exit:
        session = runner.run(_open_session(config, api_key))
        on_exit.callback(lambda: runner.run(session.close()))
        server = BatchServer(
            session, config.base_url, api_key=api_key, api_key_env=config.api_key_env, max_tries=config.max_tries,
            adopt_wait_s=config.adopt_wait_s, count=environment.count,
        )  # fmt: skip
        yield _Backend(config, environment, server, journal, runner, on_exit)


async def _open_session(config: Config, api_key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=aiohttp.ClientTimeout(total=config.timeout_s, sock_connect=config.connect_timeout_s),
    )


class _Backend:
    """A `TextBackend`."""

    def __init__(
        self, config: Config, environment: Environment, server: BatchServer, journal: Journal, runner: asyncio.Runner,
        on_exit: ExitStack,
    ) -> None:  # fmt: skip
        self.identity: Mapping[str, Any] = endpoint_identity(config)
        self._open = lambda: Flight(config, environment, server, journal, runner, self.identity)
        self._on_exit = on_exit

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order; see `TextBackend`.

        Raises:
            BackendError: the server refuses, or a batch has not ended in time; it is noted, and a rerun goes on. Or
                wanted requests are in an earlier run's batch at another base_url.
            BudgetSpent: the next request could exceed the budget.
        """
        flight = self._open()
        self._on_exit.callback(flight.close)  # where the consumer failed, its frame still holds the outcomes
        return flight.outcomes(requests)
