"""What all who run a transformers model must agree on, teachers and students: device, messages, end of a turn."""

import json
import os
from typing import Any

from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.records import Message


def device_type() -> str:
    """`$DATASTILL_DEVICE` (`cpu` or `cuda`), else `cuda` where there is one, else `cpu`.

    Raises:
        ParamsError: `$DATASTILL_DEVICE` is something else.
        MissingError: it is `cuda`, and torch finds none.
    """
    import torch

    named = os.environ.get("DATASTILL_DEVICE")
    if named not in {None, "", "cpu", "cuda"}:
        raise ParamsError(f"$DATASTILL_DEVICE: expected cpu or cuda (got {named!r})")
    if named == "cuda" and not torch.cuda.is_available():
        raise MissingError(f"$DATASTILL_DEVICE is cuda, but torch {torch.__version__} finds no CUDA device; unset it")
    return named or ("cuda" if torch.cuda.is_available() else "cpu")


def template_message(message: Message) -> dict[str, Any]:
    """A message as chat templates take it: tool calls are objects, which records keep as JSON text."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": json.loads(calls)} if calls else dict(message)


def end_tokens(network: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens at which the network's generation stops."""
    ends = network.generation_config.eos_token_id
    return frozenset({tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})
