"""A stand-in for a teacher's server on loopback: OpenAI's chat API without a model, with counts of what it was asked.

    python -m benchmarks.traces_server

Prints its port. `POST /reset` takes the `Settings` of the next run as JSON and starts the counts anew, `GET /stats`
gives them. A request with a response_format is answered by an instance of its schema. The n-th request that is not
rejected takes the n-th latency of `latencies`, whoever asks.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from aiohttp import web

from benchmarks.schema_answers import schema_answer

WORDS = "and so the answer goes on " * 8


@dataclass(frozen=True)
class Settings:
    """How the server behaves in a run.

    Attributes:
        latency_s: of an answer.
        slow_share: of the answers, those that take `slow_times` as long.
        slow_times: how many times as long these take.
        reject_over: answer 429, with a Retry-After of a second, where this many are in flight already; 0 never does.
        seed: of the choice of slow ones.
    """

    latency_s: float = 0.05
    slow_share: float = 0.0
    slow_times: float = 40.0
    reject_over: int = 0
    seed: int = 0


def latencies(settings: Settings) -> Iterator[float]:
    """Seconds that the first, second, ... request takes."""
    draw = random.Random(settings.seed)
    while True:
        slow = draw.random() < settings.slow_share
        yield settings.latency_s * (settings.slow_times if slow else 1.0)


@dataclass
class Stats:
    """What the server saw since the last reset; times are seconds of its monotonic clock.

    Attributes:
        requests: that came, rejected ones included.
        rejected: answered 429.
        peak: most in flight at once.
        first_request: when it came.
        last_answer: when it left.
        answers: how often each last message was answered.
    """

    requests: int = 0
    rejected: int = 0
    in_flight: int = 0
    peak: int = 0
    first_request: float | None = None
    last_answer: float | None = None
    answers: Counter[str] = field(default_factory=Counter[str])

    def summary(self) -> dict[str, Any]:
        """As JSON, the answers as the numbers of distinct and of repeated ones."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "answers"}
        n_distinct = len(self.answers)
        return counts | {"distinct": n_distinct, "repeated": self.answers.total() - n_distinct}


class Server:
    """One run's settings and counts."""

    def __init__(self) -> None:
        self.reset(Settings())

    def reset(self, settings: Settings) -> None:
        """Begin the next run."""
        self.settings = settings
        self.stats = Stats()
        self._latencies = latencies(settings)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        body = await request.read()
        if request.path.endswith("/chat/completions"):
            return await self._answer(json.loads(body))
        if request.path == "/reset":
            self.reset(Settings(**json.loads(body)))
        elif request.path.endswith(("/models", "/health")):  # what some clients ask first
            return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})
        elif request.path != "/stats":
            return web.Response(status=404)
        return web.json_response(self.stats.summary())

    async def _answer(self, body: dict[str, Any]) -> web.Response:
        stats, settings = self.stats, self.settings
        stats.requests += 1
        stats.first_request = stats.first_request or time.monotonic()
        if settings.reject_over and stats.in_flight >= settings.reject_over:
            stats.rejected += 1
            content = {"error": {"message": "too many requests in flight"}}
            return web.json_response(content, status=429, headers={"Retry-After": "1"})
        stats.in_flight += 1
        stats.peak = max(stats.peak, stats.in_flight)
        await asyncio.sleep(next(self._latencies))
        stats.in_flight -= 1
        said = body["messages"][-1]["content"]
        last = said if isinstance(said, str) else json.dumps(said)  # some clients send a list of parts
        stats.answers[last] += 1
        stats.last_answer = time.monotonic()
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": self._text(body, last)},
        }
        usage = {"prompt_tokens": 20, "completion_tokens": 50, "total_tokens": 70}
        return web.json_response(
            {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
        )

    def _text(self, body: dict[str, Any], last: str) -> str:
        return schema_answer(body) if "response_format" in body else f"To {last[:60]!r}: {WORDS}"


async def serve() -> None:
    """Answer until killed."""
    server = Server()
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
