"""An OpenAI-compatible endpoint as parameters: where it is, what of it goes into a request's key, and its API key.

Source: the API reference of POST /v1/chat/completions.
"""

import json
import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params

MIN_SECRET_CHARS = 6  # servers without keys are given `x` or `EMPTY`, which are no secrets
CONNECTION: JsonDict = {"connection": True}
_SECRET = re.compile(r"key|token|secret|sig|auth|pass|credential", re.IGNORECASE)


class Endpoint(Params):
    """A model on a server, and all of a request to it that is not the row's: whoever sends the same shares the answers.

    `provider` names the endpoint in a request's key, so that several servers, or a moved one, count as the same;
    without it `base_url` does. `extra_body` is merged into each request, where null removes a field. The API key is no
    part of a request's key.
    """

    base_url: str = Field(json_schema_extra=CONNECTION)
    model: str
    provider: str | None = None
    api_key_env: str = Field("OPENAI_API_KEY", json_schema_extra=CONNECTION)  # a name; the key is no parameter
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0)  # at each token, with `logprobs`
    response_format: dict[str, Any] | None = None  # such as {"type": "json_schema", "json_schema": {...}}
    return_token_ids: bool | None = None  # vLLM's, of prompt and answer
    extra_body: dict[str, Any] = Field(default_factory=dict, validate_default=True)

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return checked_url(value)

    @field_validator("top_logprobs")
    @classmethod
    def _check_top_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs logprobs=true")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _check_api_key_env(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise PydanticCustomError("secret", "expected the name of an environment variable, in capitals, not a key")
        return value

    @field_validator("extra_body")
    @classmethod
    def _check_extra_body(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        check_extra_body(value)
        named = {name: info.data.get(name) for name in ("top_logprobs", "response_format", "return_token_ids")}
        return {name: one for name, one in named.items() if one is not None} | value


def checked_url(value: str) -> str:
    """`value` without its last slash, for validators; it raises where that is no URL or holds a key."""
    url = urlsplit(value)
    if "@" in url.netloc or any(_SECRET.search(name) for name, _ in parse_qsl(url.query)):
        raise PydanticCustomError("secret", "holds a key; put the key into the environment, see api_key_env")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("expected a URL such as http://127.0.0.1:8000/v1")
    return value.rstrip("/")


def check_extra_body(extra_body: dict[str, Any]) -> dict[str, Any]:
    """`extra_body`, for validators; one answer is taken from a reply to it.

    It raises ValueError where more would be paid for, and pydantic's error, without the value, where a text is named
    like a key.
    """
    if name := next((name for name in ("n", "best_of") if extra_body.get(name) not in (None, 1)), None):
        raise ValueError(
            f"{name}={extra_body[name]!r} buys answers that would be lost, as one is taken; for several samples from a "
            "request set choices_per_request, a parameter of backend=openai_api"
        )
    if name := _find_secret(extra_body):
        message = "{name} may hold a key; give keys by the environment, see api_key_env"
        raise PydanticCustomError("secret", message, {"name": name})
    return extra_body


def _find_secret(value: Any, name: str = "") -> str | None:
    """The name of a text, at any depth, that is called like a secret."""
    if isinstance(value, dict):
        return next((found for key, one in value.items() if (found := _find_secret(one, str(key)))), None)
    if isinstance(value, list):
        return next((found for one in value if (found := _find_secret(one, name))), None)
    is_secret = isinstance(value, str) and _SECRET.search(name) and not name.endswith("tokens")
    return name if is_secret else None


def read_api_key(config: Endpoint) -> str:
    """The key in the environment, empty where there is none.

    Raises:
        ParamsError: a parameter holds it, or no HTTP header can.
    """
    api_key = os.environ.get(config.api_key_env, "").strip()
    if not (api_key.isascii() and api_key.isprintable()):
        raise ParamsError(f"${config.api_key_env} holds characters that no HTTP header can; set it again")
    if len(api_key) >= MIN_SECRET_CHARS and api_key in json.dumps(config.model_dump(), ensure_ascii=False):
        raise ParamsError(f"a parameter holds the key in ${config.api_key_env}; remove it there")
    return api_key


def endpoint_identity(config: Endpoint) -> dict[str, Any]:
    """What of the endpoint goes into a request's key; whoever sends the same requests there shares the answers."""
    return {
        "backend": "openai_api",
        "endpoint": config.provider or config.base_url,
        "model": config.model,
        "logprobs": config.logprobs,
        "extra_body": config.extra_body,
    }
