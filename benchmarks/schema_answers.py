"""Answers that follow a JSON schema, made without a model: the same for the same request. They test plumbing alone."""

import hashlib
import json
from typing import Any

TEXT = (
    "the old miller walks slowly over a frozen bridge while seven grey geese quarrel about bread near some tall church "
    "and nobody has seen his brother since that long winter storm took three boats from our quiet harbour"
)
WORDS = TEXT.split()
LABELS = ("joy", "grief", "anger", "relief", "pride", "curiosity")


def schema_answer(body: dict[str, Any]) -> str:
    """What a chat request's `response_format` asks for, as JSON text; a line of words where it asks for nothing."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    wanted = body.get("response_format")
    if wanted is None:
        return _words(digest)
    schema = wanted["json_schema"]["schema"]
    return json.dumps(_instance(schema, schema, digest, ""))


def _instance(schema: dict[str, Any], root: dict[str, Any], digest: bytes, name: str) -> Any:
    """Of the property `name`; a list is as long as it may be, at most 10, and empty where it holds numbers."""
    if "$ref" in schema:
        return _instance(root["$defs"][schema["$ref"].rpartition("/")[2]], root, digest, name)
    match schema["type"]:
        case "object":
            return {key: _instance(one, root, _next(digest, key), key) for key, one in schema["properties"].items()}
        case "array":
            n = 0 if schema["items"].get("type") == "integer" else min(schema.get("maxItems", 2), 10)
            return [_instance(schema["items"], root, _next(digest, str(i)), name) for i in range(n)]
        case "number":
            return (1 + digest[0] % 10) / 10
        case "integer":
            return schema.get("minimum", 0)
        case _:
            text = LABELS[digest[0] % len(LABELS)] if name == "label" else _words(digest)
            return text[: schema.get("maxLength", len(text))].strip()


def _next(digest: bytes, name: str) -> bytes:
    return hashlib.sha256(digest + name.encode()).digest()


def _words(digest: bytes) -> str:
    return " ".join(WORDS[byte % len(WORDS)] for byte in digest[:12]) + "."
