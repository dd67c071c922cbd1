"""Fields of a user's row: the right type, or the reason why the row cannot be used."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

Row = Mapping[str, Any]
"""A row as parsed, of whatever keys and types."""


class BadRow(Exception):
    """A row that cannot be used: a reason code and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def id_of(row: Row) -> str | None:
    """The row's own id; IFEval's is its `key`."""
    return text_of(row, "id") or (text_of(row, "key") if row.get("instruction_id_list") is not None else None)


def info_of(row: Row, read: frozenset[str]) -> str | None:
    """`info` as it is, or beside the columns that are not among those `read`."""
    others = {key: value for key, value in row.items() if key not in read and value is not None}
    given = row.get("info")
    if not others:
        return json_of(given)
    return json_of(others if given is None else others | {"info": given})


def is_object(value: object) -> TypeGuard[Row]:
    """Whether it is a mapping; JSON's and Parquet's keys are texts."""
    return isinstance(value, Mapping)


def text_of(row: Row, key: str) -> str | None:
    """A text, or a number as it is written.

    Raises:
        BadRow: it is something else.
    """
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BadRow("wrong_type", f"`{key}` must be a text or a number (got {type(value).__name__})")


def list_of(value: object, key: str) -> list[Any]:
    """A list.

    Raises:
        BadRow: it is something else.
    """
    if not isinstance(value, list):
        raise BadRow("wrong_type", f"`{key}` must be a list (got {type(value).__name__})")
    return cast(list[Any], value)


def json_of(value: object) -> str | None:
    """A text as it is, else its JSON text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
