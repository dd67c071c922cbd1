"""A server of OpenAI's batch API: files in, batches, files out.

Source: the API reference of POST and GET /v1/files and /v1/batches. An answer that says nothing of what became of a
creation (a timeout, a lost connection, a 5xx) is never followed by a second creation before the list of batches was
searched for the first.
"""

import asyncio
import json
import os
import random
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import aiohttp
from yarl import URL

from datagen.backends.chat_format import error_message, retry_after_s
from datagen.contracts.errors import BackendError

TOKEN_NAME = "datastill"  # in a batch's metadata
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 60.0
MIN_SECRET_CHARS = 6
N_LISTED = 100  # batches a page, the API's most
CHUNK_BYTES = 1 << 20
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class Gone(BackendError):
    """A batch or a file that the server does not have."""


class _Unclear(Exception):
    """The server may have done what was asked, or not."""

    def __init__(self, detail: str, wait_s: float | None = None) -> None:
        super().__init__(detail)
        self.wait_s = wait_s


class _NotDone(_Unclear):
    """The server did not do it."""


class BatchServer:
    """Calls with retries; raises BackendError with the remedy once `max_tries` in a row have failed."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, *, api_key: str, api_key_env: str, max_tries: int,
        adopt_wait_s: float, count: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._session = session
        self._base = URL(base_url)
        self._api_key = api_key
        self._api_key_env = api_key_env
        self._max_tries = max_tries
        self._adopt_wait_s = adopt_wait_s
        self._count = count
        self._jitter = random.Random()

    async def upload(self, content: BinaryIO) -> str:
        """The id of a new input file; one that is uploaded twice costs nothing."""

        async def call() -> dict[str, Any]:
            content.flush()
            content.seek(0)
            with open(os.dup(content.fileno()), "rb") as file:  # whoever sends it closes it
                form = aiohttp.FormData({"purpose": "batch"})
                form.add_field("file", file, filename="datastill.jsonl", content_type="application/jsonl")
                return await self._json("POST", "files", data=form)

        return str((await self._retried(call, "the upload"))["id"])

    async def create(self, file_id: str, token: str, *, window: str) -> dict[str, Any]:
        """A new batch that bears `token`, or the one that an attempt without an answer made."""
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": window,
            "metadata": {TOKEN_NAME: token},
        }
        is_unclear = False

        async def call() -> dict[str, Any]:
            nonlocal is_unclear
            if is_unclear:
                await asyncio.sleep(self._adopt_wait_s)
                if batch := await self.find(file_id, token):
                    return batch
            try:
                return await self._json("POST", "batches", json=body, headers={"Idempotency-Key": token})
            except (_NotDone, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                raise
            except Exception:
                is_unclear = True
                raise

        return await self._retried(call, "the creation of a batch")

    async def find(self, file_id: str, token: str) -> dict[str, Any] | None:
        """The batch that bears `token` or reads that input file, where there is one."""
        after: dict[str, str] = {}
        while True:
            page = await self._retried(
                lambda query=after: self._json("GET", "batches", params={"limit": str(N_LISTED), **query}),
                "the list of batches",
            )
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(TOKEN_NAME) == token or batch.get("input_file_id") == file_id:
                    return batch
            if not page.get("has_more") or not page["data"]:
                return None
            after = {"after": str(page["data"][-1]["id"])}

    async def wait_and_find(self, file_id: str, token: str) -> dict[str, Any] | None:
        """`find`, and once more after a while: a creation whose sender was killed may still be on its way."""
        if batch := await self.find(file_id, token):
            return batch
        await asyncio.sleep(self._adopt_wait_s)
        return await self.find(file_id, token)

    async def get(self, batch_id: str) -> dict[str, Any]:
        """The batch as it is now."""
        return await self._retried(lambda: self._json("GET", f"batches/{batch_id}"), f"batch {batch_id}")

    async def download(self, file_id: str, target: BinaryIO) -> None:
        """Write the whole of a file to `target`, which is at its start."""

        async def call() -> None:
            target.seek(0)
            target.truncate()
            async with self._session.get(self._url(f"files/{file_id}/content"), allow_redirects=False) as response:
                if response.status // 100 != 2:
                    raise self._sorted(response.status, response.headers, await response.read())
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    target.write(chunk)

        await self._retried(call, f"file {file_id}")

    def _url(self, path: str) -> URL:
        return self._base.joinpath(*path.split("/")).with_query(self._base.query)

    async def _json(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        url = self._url(path)
        if params := sent.pop("params", None):
            url = url.update_query(params)
        async with self._session.request(method, url, allow_redirects=False, **sent) as response:
            reply = await response.read()
            if response.status // 100 != 2:
                raise self._sorted(response.status, response.headers, reply)
        try:
            content = json.loads(reply)
        except (ValueError, RecursionError) as error:
            raise _Unclear(f"reply to {method} {path}: {type(error).__name__}: {error}") from None
        needed = {"files": {"id"}, "batches": {"id", "status"}}[path.partition("/")[0]]
        needed = {"data"} if (method, path) == ("GET", "batches") else needed
        if not isinstance(content, dict) or not needed <= content.keys():
            raise _Unclear(f"reply to {method} {path}: expected {', '.join(sorted(needed))}")
        return content

    def _sorted(self, status: int, headers: Mapping[str, str], reply: bytes) -> Exception:
        said = error_message(self.without_key(reply))
        if status == 429 and b"insufficient_quota" not in reply:
            return _NotDone(f"429: {said}", retry_after_s(headers))
        if status >= 500 or status in {408, 409, 425}:
            return _Unclear(f"{status}: {said}", retry_after_s(headers))
        if status in {401, 402, 403}:
            remedy = "it refuses the key in" if self._api_key else "it wants a key: set"
            return BackendError(f"{self._base}: {remedy} ${self._api_key_env} ({status}: {said})")
        if status == 404:
            return Gone(f"{self._base}: {status}: {said}")
        return BackendError(f"{self._base}: the server refuses a batch ({status}: {said})")

    async def _retried(self, call: Callable[[], Any], what: str) -> Any:
        n_failed = 0
        while True:
            self._count("batch_calls")
            try:
                return await call()
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                failure: Exception = _NotDone(f"no connection ({error})")
            except TimeoutError:
                failure = _Unclear("no whole answer within timeout_s")
            except aiohttp.ClientError as error:
                failure = _Unclear(f"connection lost ({type(error).__name__}: {error})")
            except _Unclear as error:
                failure = error
            n_failed += 1
            if n_failed >= self._max_tries:
                raise BackendError(
                    f"{self._base}: {what}: {n_failed} attempts failed, the last: {failure}. What is under way there "
                    "is noted: run again to go on"
                ) from None
            self._count("retries_batch_calls")
            backoff_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (n_failed - 1)) * self._jitter.uniform(0.5, 1.0)
            await asyncio.sleep(min(LAST_BACKOFF_S, max(backoff_s, getattr(failure, "wait_s", None) or 0.0)))

    def without_key(self, text: bytes) -> bytes:
        """Text of the server without the API key, whatever it repeats."""
        if len(self._api_key) < MIN_SECRET_CHARS:
            return text
        for spelling in (self._api_key, self._api_key.replace("/", r"\/")):
            text = text.replace(spelling.encode(), b"[key]")
        return text
