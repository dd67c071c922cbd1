"""What is said to and by a server of OpenAI's chat completions API, and of its completions API for raw prompts.

Source: the API reference of POST /v1/chat/completions and POST /v1/completions; `add_special_tokens` and
`skip_special_tokens` are vLLM's, and null in `extra_body` removes them for a server that refuses them;
`reasoning_content` as DeepSeek names it, `reasoning` as OpenRouter and vLLM do; Retry-After as in RFC 9110, section
10.2.3.
"""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from datagen.backends.base import Completion, Failure, Request
from datagen.contracts.errors import ParamsError

MAX_DETAIL_CHARS = 300
SCHEMA_NAME = "answer"
_ABOUT_SCHEMA = re.compile(r"response_format|schema|structured|grammar|guided", re.IGNORECASE)


class WrongChoices(ValueError):
    """A reply with choices that were not asked for."""


def extra_body_of(request: Request, extra_body: Mapping[str, Any]) -> Mapping[str, Any]:
    """`extra_body`, and beside it the request's schema as the API takes it.

    Raises:
        ParamsError: both say what form the answer has, or the schema is no JSON object.
    """
    if request.response_schema is None:
        return extra_body
    if "response_format" in extra_body:
        raise ParamsError(
            "response_format: the requests have schemas of their own; leave it out, or set structured_output=none"
        )
    return {**extra_body, "response_format": _response_format(request.response_schema)}


@lru_cache(maxsize=64)
def _response_format(schema: str) -> dict[str, Any]:
    try:
        read = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise ParamsError(f"a request's response_schema is no JSON ({error}): {schema[:100]!r}") from None
    if not isinstance(read, dict):
        raise ParamsError(f"a request's response_schema is no JSON object: {schema[:100]!r}")
    return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": read, "strict": True}}


def with_remedy(failure: Failure, request: Request) -> Failure:
    """The failure, `schema_refused` with what to do about it where the server did not take the request's schema."""
    is_about_schema = failure.reason.startswith("http_4") and _ABOUT_SCHEMA.search(failure.detail)
    if request.response_schema is None or not is_about_schema:
        return failure
    remedy = "structured_output=none asks without a schema"
    return Failure(reason="schema_refused", detail=f"{failure.reason}: {failure.detail}; {remedy}")


def request_body(
    request: Request, *, model: str, logprobs: bool, extra_body: Mapping[str, Any], n_choices: int = 1
) -> bytes:
    """The JSON that asks for `n_choices` answers; a null in `extra_body` removes a field.

    Raises:
        ValueError, RecursionError: the row's tools or tool calls are not JSON, or nested too deep.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        **_asked(request),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.tools:
        body["tools"] = json.loads(request.tools)
    if logprobs:
        body["logprobs"] = True
    body = {name: value for name, value in {**body, **extra_body}.items() if value is not None}
    if n_choices > 1:
        body["n"] = n_choices
    return _to_json(body).encode()


def _asked(request: Request) -> dict[str, Any]:
    if request.prompt is None:
        return {"messages": [_message(message) for message in request.messages]}
    return {"prompt": request.prompt, "add_special_tokens": False, "skip_special_tokens": False}


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps makes an encoder a call


def parse_completion(body: bytes) -> Completion:
    """The first choice of a reply.

    Raises:
        ValueError: not UTF-8, not JSON, nested too deep, no choice, or a field of another type than the API's.
    """
    try:
        reply = json.loads(body.decode())
        return _completion(reply, reply["choices"][0])
    except _MALFORMED as error:
        raise ValueError(f"no chat completion: {type(error).__name__}: {error}") from None


def parse_choices(body: bytes, n: int) -> list[Completion | None]:
    """The choices of a reply to a request for `n`, each where its `index` says, None where one is missing.

    Each has the counts of tokens of the whole reply.

    Raises:
        WrongChoices: there are more than `n`, or an index is not below it or comes twice.
        ValueError: as for `parse_completion`.
    """
    try:
        reply = json.loads(body.decode())
        choices = [reply["choices"][0], *reply["choices"][1:]]
        indexes = [choice.get("index") for choice in choices]
        places = [place if index is None else index for place, index in enumerate(indexes)]
        if len(set(places)) < len(places) or not set(places) <= set(range(n)):
            raise WrongChoices(f"{n} choices were asked for, and those with the indexes {places} came")
        found = {place: _completion(reply, choice) for place, choice in zip(places, choices, strict=True)}
    except _MALFORMED as error:
        raise ValueError(f"no chat completion: {type(error).__name__}: {error}") from None
    return [found.get(place) for place in range(n)]


_MALFORMED = (KeyError, IndexError, TypeError, AttributeError, RecursionError)


def _completion(reply: Mapping[str, Any], choice: Mapping[str, Any]) -> Completion:
    is_raw = "text" in choice and "message" not in choice
    message, usage = {"content": choice["text"]} if is_raw else choice["message"], reply.get("usage") or {}
    logprobs = (choice.get("logprobs") or {}).get("content")
    completion = Completion(
        text=_text(message.get("content")) or "",
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        finish_reason=_text(choice.get("finish_reason")),
        n_prompt_tokens=_count(usage.get("prompt_tokens")),
        n_completion_tokens=_count(usage.get("completion_tokens")),
        logprobs=None if logprobs is None else _logprobs(logprobs),
        top_logprobs=_top_logprobs(logprobs),
        tool_calls=json.dumps(calls, ensure_ascii=False) if (calls := message.get("tool_calls")) else None,
        prompt_token_ids=_token_ids(reply.get("prompt_token_ids")),
        token_ids=_token_ids(choice.get("token_ids")),
    )
    f"{completion.text}{completion.reasoning}{completion.tool_calls}".encode()  # half a surrogate pair is a ValueError
    return completion


def says_something(completion: Completion) -> bool:
    """Whether there is a text, reasoning or a tool call."""
    return bool(completion.text or completion.reasoning or completion.tool_calls)


def answer_or_failure(completion: Completion) -> Completion | Failure:
    """An empty completion is no answer."""
    if says_something(completion):
        return completion
    return Failure(reason="empty_answer", detail=f"no text; finish_reason is {completion.finish_reason}")


def error_message(body: bytes) -> str:
    """What the server says of an error, in one line, whatever form it has."""
    text = body.decode(errors="replace")
    try:
        said = json.loads(text)
        said = said.get("error", said)
        text = said if isinstance(said, str) else said.get("message") or said.get("detail") or text
    except (ValueError, AttributeError, RecursionError):
        pass
    line = " ".join(str(text).split())
    return line if len(line) <= MAX_DETAIL_CHARS else f"{line[: MAX_DETAIL_CHARS - 3]}..."


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, where it does; a date counts from the reply's own Date, not from our clock."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
        date = headers.get("Date")
        now = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
    except ValueError:
        return None
    return max(0.0, until - now)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    sent = dict(message)
    if calls := sent.get("tool_calls"):
        sent["tool_calls"] = json.loads(calls)
        sent.setdefault("content", None)
    return sent


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected a text, got {type(value).__name__}")
    return value


def _token_ids(value: Any) -> list[int] | None:
    """What vLLM adds where `return_token_ids` is asked for."""
    if value is not None and not (isinstance(value, list) and all(type(one) is int for one in value)):
        raise TypeError("expected a list of token ids")
    return value


def _logprobs(tokens: list[Any]) -> list[tuple[str, float]]:
    return [(str(one["token"]), float(one["logprob"])) for one in tokens]


def _top_logprobs(tokens: list[Any] | None) -> list[list[tuple[str, float]]] | None:
    """None where no token has any: the API gives an empty list to each where none were asked for."""
    if not any(one.get("top_logprobs") for one in tokens or ()):
        return None
    return [_logprobs(one.get("top_logprobs") or []) for one in tokens or ()]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
