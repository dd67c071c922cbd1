"""A real server on loopback that speaks OpenAI's batch API, counts every answer bought, and can be stopped anywhere.

Source: the API reference of /v1/files and /v1/batches. An answer is that of `chat_server` to the same body. A row is
bought when its batch is created, unless the test decides that the row or the batch comes to nothing.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.chat_server import answer_to
from tests.loopback import served

PAGE = 2  # batches that one page of the list holds, so that a test with three reads the second
DEADLINE_S = 120.0


class BatchServer:
    """Answers, counts, and stops where it is told to.

    Attributes:
        base_url: with the port that the system chose.
        n_looks: how often a batch is shown as in progress before it has ended.
        status_of: given a batch's number from 0, the status in which it ends.
        row: given a request's body and how often it came (from 1), what its batch's file says in place of an answer:
            {"response": ...}, {"error": ...}, or {} for no row at all; None for an answer.
        fault: given a call such as "POST batches" and which time it comes (from 1), a status to answer with, or None.
        has_usage: whether replies say how many tokens they cost.
        bought: custom_id to how often its answer was bought.
        batches: in the order created.
        files: id to content.
        calls: how often each call came.
    """

    def __init__(self) -> None:
        self.base_url = ""
        self.n_looks = 1
        self.status_of: Callable[[int], str] = lambda index: "completed"
        self.row: Callable[[dict[str, Any], int], dict[str, Any] | None] = lambda body, n: None
        self.fault: Callable[[str, int], int | None] = lambda call, n: None
        self.errors: list[dict[str, Any]] = []
        self.has_usage = True
        self.bought: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.batches: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._stop_at = ""

    def stop_at(self, place: str) -> None:
        """The next call that comes to `place` sets `reached` and waits for `go_on`.

        Places: `uploaded` and `created`, done but not answered; `creating`, asked for but not done; `looked at`;
        `downloading`, half of the content sent.
        """
        self._stop_at = place
        self.reached.clear()
        self.go_on.clear()

    async def _pause(self, place: str) -> None:
        if self._stop_at == place:
            self._stop_at = ""
            self.reached.set()
            await asyncio.to_thread(self.go_on.wait, DEADLINE_S)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        call = f"{request.method} {request.path.split('/')[2]}"
        self.calls[call] += 1
        self.headers = dict(request.headers)
        status = self.fault(call, self.calls[call])
        if status and status < 600:
            return web.json_response({"error": {"message": f"told to say {status}"}}, status=status)
        response = await handler(request)
        if status:  # 600 and above: done, and then the answer gets lost
            assert request.transport
            request.transport.abort()
        return response

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        id = f"file-{len(self.files)}"
        self.files[id] = file.file.read()
        await self._pause("uploaded")
        return web.json_response({"id": id, "object": "file", "purpose": "batch"})

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self._pause("creating")
        batch = {
            "id": f"batch_{len(self.batches)}", "object": "batch", "status": "validating", "looks": 0,
            "request_counts": {}, "output_file_id": None, "error_file_id": None, "errors": None, **body,
        }  # fmt: skip
        assert batch["endpoint"] == "/v1/chat/completions"
        self._run(batch, self.status_of(len(self.batches)))
        self.batches.append(batch)
        await self._pause("created")
        return web.json_response(self._shown(batch))

    def _run(self, batch: dict[str, Any], status: str) -> None:
        """Answer every row now; what is shown of it comes later."""
        output: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            assert (asked["method"], asked["url"]) == ("POST", "/v1/chat/completions")
            body, id = asked["body"], asked["custom_id"]
            if status == "failed":
                continue
            self.asked[id] += 1
            said = self.row(body, self.asked[id])
            row: dict[str, Any] = {"id": f"r-{id[:8]}", "custom_id": id, "response": None, "error": None}
            if said is None:
                self.bought[id] += 1
                answer = answer_to(body)
                if not self.has_usage:
                    del answer["usage"]
                output.append(row | {"response": {"status_code": 200, "body": answer}})
            elif said:
                errors.append(row | said)
        for name, rows in (("output_file_id", output), ("error_file_id", errors)):
            if rows:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = b"".join(json.dumps(row).encode() + b"\n" for row in reversed(rows))
        batch["end"] = status

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in batch.items() if name not in {"looks", "end"}}
        if batch["looks"] > self.n_looks:
            errors = {"object": "list", "data": self.errors} if batch["end"] == "failed" else None
            return shown | {"status": batch["end"], "errors": errors}
        return shown | {"status": "in_progress", "output_file_id": None, "error_file_id": None}

    async def look(self, request: web.Request) -> web.Response:
        found = [batch for batch in self.batches if batch["id"] == request.match_info["id"]]
        if not found:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        await self._pause("looked at")
        found[0]["looks"] += 1
        return web.json_response(self._shown(found[0]))

    async def list(self, request: web.Request) -> web.Response:
        newest = [self._shown(batch) for batch in reversed(self.batches)]
        ids = [batch["id"] for batch in newest]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = newest[start : start + PAGE]
        return web.json_response({"object": "list", "data": page, "has_more": start + PAGE < len(newest)})

    async def content(self, request: web.Request) -> web.StreamResponse:
        content = self.files.get(request.match_info["id"])
        if content is None:
            return web.json_response({"error": {"message": "no such file"}}, status=404)
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        await self._pause("downloading")
        await response.write(content[len(content) // 2 :])
        return response


@contextmanager
def running_batches() -> Iterator[BatchServer]:
    """A server on a free port, in a thread of its own."""
    server = BatchServer()
    app = web.Application(client_max_size=2**28, middlewares=[server.middleware])
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.create)
    app.router.add_get("/v1/batches", server.list)
    app.router.add_get("/v1/batches/{id}", server.look)
    with served(app) as url:
        server.base_url = f"{url}/v1"
        try:
            yield server
        finally:
            server.go_on.set()
