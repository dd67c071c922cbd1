"""A real HTTP server on loopback that draws from a transformers model and reads its weights anew, as vLLM's does.

Greedy, whatever the temperature: tests ask whether weights, tokens and ends arrive. `log` holds (route, body) in order.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from safetensors.torch import load_file


class Drawing(ThreadingHTTPServer):
    """The server; without `in_dev_mode` it has no routes but completions."""

    def __init__(self, model: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.in_dev_mode = model, True
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.computing = threading.Lock()

    @property
    def base_url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def reply(self, route: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and reply."""
        with self.computing, torch.no_grad():
            self.log.append((route, body))
            if route == "/collective_rpc" and self.in_dev_mode:
                state = load_file(f"{body['kwargs']['weights_path']}/model.safetensors")
                self.model.load_state_dict(state, strict=False)  # without those of tied weights
                return 200, {"results": [None]}
            if route == "/reset_prefix_cache" and self.in_dev_mode:
                return 200, None
            if route != "/v1/completions":
                return 404, {"detail": "Not Found"}
            tokens, log_probs = list(body["prompt"]), list[float]()
            while len(log_probs) < body["max_tokens"] and not (log_probs and tokens[-1] in body["stop_token_ids"]):
                after = self.model(torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1)
                tokens.append(int(after.argmax()))
                log_probs.append(float(after.max()))
            answer = tokens[len(body["prompt"]) :]
            return 200, {"choices": [{"token_ids": answer, "logprobs": {"token_logprobs": log_probs}}]}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        assert isinstance(self.server, Drawing)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, reply = self.server.reply(self.path, body)
        content = b"" if reply is None else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def drawing(model: Any) -> Iterator[Drawing]:
    """Serve `model`."""
    server = Drawing(model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
