"""The lines of the batch API's files: one a request going in, one a row coming out, and what it means to have none.

Source: the API reference of a batch, and of its input and output objects.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.backends.base import Completion, Failure, Request
from datagen.backends.budget import Purchase
from datagen.backends.chat_format import answer_or_failure, error_message, parse_completion, request_body
from datagen.backends.endpoint_params import Endpoint
from datagen.contracts.errors import BackendError

URL_PATH = "/v1/chat/completions"
_PASSING_CODES = frozenset({"batch_expired", "server_error", "rate_limit_exceeded"})
_CONTEXT_OVERFLOW = re.compile(r"context[ _]length|maximum context|too many tokens", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one request of a batch.

    Attributes:
        answer: what the ledger takes, or why there is none.
        may_pass: a failure that another batch may mend.
        reply: the completion that was paid for, an empty one too.
        is_free: nothing was paid; where there is no reply either, that is unknown.
    """

    key: bytes
    answer: Completion | Failure
    may_pass: bool = False
    reply: Completion | None = None
    is_free: bool = False

    def price(self, purchase: Purchase, request: Request) -> None:
        """Say what the row cost; where that is unknown it costs its most."""
        if (reply := self.reply) is not None:
            purchase.answered(
                reply.n_prompt_tokens, reply.n_completion_tokens, request.said, request.tools,
                reply.text, reply.reasoning, reply.tool_calls,
            )  # fmt: skip
        elif self.is_free:
            purchase.free()


class Refused(BackendError):
    """The server took no row of a batch; nothing was bought."""


def request_line(request: Request, key: bytes, endpoint: Endpoint, extra_body: Mapping[str, Any]) -> bytes:
    """One line of the input file; its custom_id is the request's key, and `extra_body` stands in the body.

    Raises:
        ValueError, RecursionError: the row's tools or tool calls are not JSON, or nested too deep.
    """
    body = request_body(request, model=endpoint.model, logprobs=endpoint.logprobs, extra_body=extra_body)
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (key.hex().encode(), URL_PATH.encode(), body)


def read_rows(lines: Iterable[bytes], *, unreadable: Callable[[], None]) -> Iterator[Row]:
    """The rows of an output or error file; `unreadable` is called for each line that is none."""
    for line in lines:
        try:
            row = json.loads(line)
            key = bytes.fromhex(row["custom_id"])
            sorted_row = _sort(key, row)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            unreadable()
            continue
        yield sorted_row


def left_over(
    batch: Mapping[str, Any], keys: Sequence[bytes], outstanding: Iterable[bytes]
) -> dict[bytes, tuple[Failure, bool]]:
    """Why the rows that are in no file of a batch have no answer, and whether another batch may give one.

    Args:
        batch: as the server shows it, ended.
        keys: of its input file, line by line.
        outstanding: those without a row.

    Raises:
        Refused: the server refused the batch for no one row's sake.
    """
    status, id = batch["status"], f"batch {batch['id']}"
    if status == "cancelled":
        return dict.fromkeys(outstanding, (Failure(reason="batch_cancelled", detail=f"{id} was cancelled"), False))
    if status == "expired":
        return dict.fromkeys(outstanding, (Failure(reason="batch_expired", detail=f"{id} expired"), True))
    if status == "completed":
        return dict.fromkeys(outstanding, (Failure(reason="no_row", detail=f"{id} has no row for it"), True))
    errors = (batch.get("errors") or {}).get("data") or []
    said = "; ".join(f"{one.get('code')}: {one.get('message')}" for one in errors[:3]) or "no reason given"
    by_line = {one["line"]: one for one in errors if isinstance(one.get("line"), int)}
    if not by_line:
        raise Refused(f"{id} is refused ({said}); mend that, or lower max_requests_per_batch or max_batches")
    left: dict[bytes, tuple[Failure, bool]] = dict.fromkeys(
        keys, (Failure(reason="batch_failed", detail=f"{id} is refused ({said})"), True)
    )
    for line, error in by_line.items():
        if 0 < line <= len(keys):
            failure = Failure(reason=_reason(error.get("code")), detail=error_message(json.dumps(error).encode()))
            left[keys[line - 1]] = failure, False
    return left


def _reason(code: Any) -> str:
    return re.sub(r"\W", "_", str(code or "batch_error").lower())[:40]


def _sort(key: bytes, row: dict[str, dict[str, object]]) -> Row:
    response, error = row.get("response"), row.get("error")
    if response and response["status_code"] == 200:
        return _sort_reply(key, json.dumps(response["body"]).encode())
    if response:
        status = int(str(response["status_code"]))
        said = error_message(json.dumps(response["body"]).encode())
        reason = "context_overflow" if _CONTEXT_OVERFLOW.search(said) else f"http_{status}"
        failure = Failure(reason=reason, detail=said)
        return Row(key=key, answer=failure, may_pass=status >= 500 or status in {408, 409, 425, 429}, is_free=True)
    code = str((error or {}).get("code") or "batch_error")
    detail = error_message(json.dumps({"error": error or {}}).encode())
    failure = Failure(reason=_reason(code), detail=detail)
    return Row(key=key, answer=failure, may_pass=code in _PASSING_CODES, is_free=True)


def _sort_reply(key: bytes, body: bytes) -> Row:
    try:
        reply = parse_completion(body)
    except ValueError as error:
        return Row(key=key, answer=Failure(reason="bad_body", detail=f"row of status 200: {error}"), may_pass=True)
    return Row(key=key, answer=answer_or_failure(reply), reply=reply)
