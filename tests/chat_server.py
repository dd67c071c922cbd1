"""A real server on loopback that speaks OpenAI's chat completions API and its completions API, with faults to order.

Its answer is a function of the request's body alone, so that two runs get equal answers. A fault is a handler that
takes the answer's place.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.loopback import served

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]
MODELS = ("m", "other-model")


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """The reply that this server gives to a request; a test may compute it too."""
    canonical = json.dumps(body, sort_keys=True)
    n = body.get("n", 1)
    digests = [hashlib.sha256(canonical.encode() + b"#%d" % i * (i > 0)).hexdigest() for i in range(n)]
    last = body["prompt"] if "prompt" in body else body["messages"][-1]["content"] or ""
    texts = [f"{digest[:12]} for {last[:40]}" for digest in digests]
    return {
        "object": "text_completion" if "prompt" in body else "chat.completion",
        "model": body["model"],
        "choices": [
            {"index": index, "finish_reason": "stop"}
            | ({"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}})
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": len(canonical), "completion_tokens": 3 * n},
    }


class ChatServer:
    """Counts and answers.

    Attributes:
        base_url: with the port that the system chose.
        latency_s: of every answer.
        fault: given the request's body and which time it is asked (from 1), the fault to show, or None.
        asked: how often each body came, by its canonical JSON.
        headers: of the last request.
        peak: most requests in flight at once.
        metrics: what it says of itself, where it does.
        n_metrics_lost: how many of the next looks at them end without an answer.
    """

    def __init__(self) -> None:
        self.base_url = ""
        self.latency_s = 0.0
        self.fault: Callable[[dict[str, Any], int], Fault | None] = lambda body, n: None
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.peak = 0
        self.metrics = ""
        self.n_metrics_lost = 0
        self._in_flight = 0

    @property
    def n_requests(self) -> int:
        """Requests that came, repeated ones included."""
        return self.asked.total()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions, where messages go, and /v1/completions, where a prompt does."""
        body = await request.json()
        if ("prompt" in body) != (request.path == "/v1/completions"):
            return web.json_response({"error": {"message": f"not for {request.path}"}}, status=400)
        canonical = json.dumps(body, sort_keys=True)
        self.asked[canonical] += 1
        self.bodies.append(body)
        self.headers = dict(request.headers)
        self._in_flight += 1
        self.peak = max(self.peak, self._in_flight)
        try:
            if fault := self.fault(body, self.asked[canonical]):
                return await fault(request)
            await asyncio.sleep(self.latency_s)
            return web.json_response(answer_to(body))
        finally:
            self._in_flight -= 1

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})

    async def show_metrics(self, request: web.Request) -> web.Response:
        """GET /metrics."""
        if self.n_metrics_lost and request.transport:
            self.n_metrics_lost -= 1
            request.transport.abort()
        return web.Response(text=self.metrics) if self.metrics else web.Response(status=404)


@contextmanager
def running() -> Iterator[ChatServer]:
    """A server on a free port, in a thread of its own."""
    server = ChatServer()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/v1/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/metrics", server.show_metrics)
    with served(app) as url:
        server.base_url = f"{url}/v1"
        yield server


def reply(content: bytes | dict[str, Any], status: int = 200, **headers: str) -> Fault:
    """This status and content; header names with underscores."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def respond(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=named)

    return respond


async def closed(request: web.Request) -> web.StreamResponse:
    """The connection is reset before any answer."""
    assert request.transport
    request.transport.abort()
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    """Half a body, then the connection closes."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"content": "hal')
    assert request.transport
    request.transport.close()
    return response


def late(after_s: float) -> Fault:
    """The right answer, after this long."""

    async def respond(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(after_s)
        return web.json_response(answer_to(await request.json()))

    return respond
