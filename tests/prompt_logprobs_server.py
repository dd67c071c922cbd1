"""A real HTTP server on loopback that scores prompts with a transformers model, in vLLM's form of `prompt_logprobs`.

As vLLM does, it gives the likeliest tokens and the one that is there, nothing for the first, -9999 for log 0, and 400
for a prompt beyond its context or too many log-probs. `fails` of the first replies are 503.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

MAX_LOGPROBS = 300


class Scoring(ThreadingHTTPServer):
    """The server.

    Attributes:
        bodies: every request, in order of arrival.
        changed: what is put in a reply's place, for servers that are not vLLM.
    """

    def __init__(self, model: Any, context: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.context = model, context
        self.bodies: list[dict[str, Any]] = []
        self.fails = 0
        self.changed: dict[str, Any] | None = None
        self.computing = threading.Lock()

    @property
    def base_url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def score(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and reply."""
        with self.computing:
            self.bodies.append(body)
            if self.fails:
                self.fails -= 1
                return 503, {"error": "busy"}
            if self.changed is not None:
                return 200, self.changed
            tokens, top = body["prompt"], body["prompt_logprobs"]
            if len(tokens) + body["max_tokens"] > self.context or top > MAX_LOGPROBS:
                return 400, {"error": {"message": "This model's maximum context length is exceeded"}}
            with torch.no_grad():
                log_probs = self.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
            given: list[dict[str, Any] | None] = [None]
            for before, token in zip(log_probs[:-1], tokens[1:], strict=True):
                ids = {*before.topk(top).indices.tolist(), token}
                given.append({str(id): {"logprob": max(float(before[id]), -9999.0), "rank": 1} for id in ids})
            return 200, {"choices": [{"text": "x", "prompt_logprobs": given}]}


class _Handler(BaseHTTPRequestHandler):
    @property
    def scoring(self) -> Scoring:
        """The server that made it."""
        assert isinstance(self.server, Scoring)
        return self.server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, content = self.scoring.score(body) if self.path == "/v1/completions" else (404, {})
        reply = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


@contextmanager
def scoring_server(model: Any, *, context: int = 512) -> Iterator[Scoring]:
    """Serve `model` until the block ends."""
    server = Scoring(model, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
