"""Deterministic answers without a model, for tests and dry runs.

Source: none. The text is drawn from a request's key, so it changes with the seed and with everything else that makes
the request what it is. A request's schema is of no consequence otherwise: a script says what it says, so it can play
the server that heeds no schema.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

from pydantic import Field

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request
from datagen.backends.in_batches import answer_batch
from datagen.contracts.params import Params

WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron",
    "inlet", "juniper", "kelp", "larch", "maple", "nectar", "otter", "pebble",
)  # fmt: skip


class Config(Params):
    """Each answer is one of `answers`, or `n_words` words where there are none.

    `fail_every` n lets one request in n fail, chosen by its key; 0 lets none. `delay_s` is the time that the requests
    in flight take. Neither is part of a request's key.
    """

    backend: Literal["scripted"]
    answers: tuple[str, ...] = ()
    n_words: int = Field(default=8, ge=1, le=32)
    fail_every: int = Field(default=0, ge=0)
    delay_s: float = Field(default=0.0, ge=0)


@contextmanager
def scripted(config: Config, environment: Environment) -> Iterator["_Backend"]:
    """Open the backend; there is nothing to check."""
    yield _Backend(config, environment)


class _Backend:
    """A `TextBackend`; `environment.concurrency` requests are in flight at a time."""

    def __init__(self, config: Config, environment: Environment) -> None:
        self.identity: Mapping[str, Any] = {
            "backend": config.backend,
            "model": config.backend,
            "answers": list(config.answers),
            "n_words": config.n_words,
        }
        self._config = config
        self._environment = environment

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """The outcome of every request, in order."""
        remaining = iter(requests)
        while flight := list(islice(remaining, self._environment.concurrency)):
            keys = [request.key(self.identity) for request in flight]
            by_key = dict(zip(keys, flight, strict=True))
            answers = answer_batch(
                self._environment,
                by_key,
                lambda missing, by_key=by_key: self._ask(missing, by_key),
                epoch=flight[0].sampling.cache_epoch,
            )
            for request, key in zip(flight, keys, strict=True):
                answer, from_ledger = answers[key]
                yield Outcome(request=request, key=key, answer=answer, from_ledger=from_ledger)

    def _ask(self, keys: Collection[bytes], requests: Mapping[bytes, Request]) -> dict[bytes, Completion | Failure]:
        self._environment.count("requests", len(keys))
        time.sleep(self._config.delay_s)
        return {key: self._answer(key, requests[key]) for key in keys}

    def _answer(self, key: bytes, request: Request) -> Completion | Failure:
        config = self._config
        number = int.from_bytes(key[:8], "big")
        if config.fail_every and number % config.fail_every == 0:
            return Failure(reason="scripted", detail=f"one request in {config.fail_every} fails")
        text = " ".join(WORDS[byte % len(WORDS)] for byte in key[: config.n_words])
        if config.answers:
            text = config.answers[number % len(config.answers)]
        return Completion(
            text=text,
            finish_reason="stop",
            n_prompt_tokens=sum(len((message.get("content") or "").split()) for message in request.said),
            n_completion_tokens=len(text.split()),
        )
