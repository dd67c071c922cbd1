"""A reference that holds several answers, any of which is right."""

import json
from typing import Any


def references(reference: str) -> list[str]:
    """The alternatives in a reference: those of a JSON list of texts, else the reference as it stands."""
    try:
        given: Any = json.loads(reference)
    except (ValueError, RecursionError):
        return [reference]
    if isinstance(given, list) and given and all(isinstance(one, str) for one in given):  # pyright: ignore[reportUnknownVariableType]
        return given  # pyright: ignore[reportUnknownVariableType]
    return [reference]
