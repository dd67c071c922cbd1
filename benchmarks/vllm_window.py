"""When a vLLM server got each chat request and had sent the last byte of its answer.

`vllm serve ... --middleware benchmarks.vllm_window.Window`, with this repository on PYTHONPATH, appends a JSON line for
each to the file that $VLLM_WINDOW names; times are seconds of the machine's monotonic clock. It knows no other package:
the server's interpreter imports it.
"""

import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


class Window:
    """ASGI middleware."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Any request; only those for answers are written down."""
        if not scope.get("path", "").endswith("/chat/completions"):
            return await self._app(scope, receive, send)
        seen = {"start": time.monotonic(), "end": 0.0, "status": 0}

        async def send_seen(message: Message) -> None:
            await send(message)
            seen["status"] = message.get("status", seen["status"])
            seen["end"] = time.monotonic()

        await self._app(scope, receive, send_seen)
        with open(os.environ["VLLM_WINDOW"], "a") as file:
            file.write(json.dumps(seen) + "\n")
