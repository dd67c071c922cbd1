"""What code must pass, as a row writes it and as one column holds it.

A user's row has `tests`, assert statements in a list or in one text, or `cases`, a list of {stdin, stdout}, or both;
MBPP's (arXiv:2108.07732) `test_list` and `test_setup_code` are read too. The column `tests` of a Prompt is the JSON
text of `asserts`, `cases` and `setup`, as far as there are any.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

COLUMNS = frozenset(("tests", "cases", "test_list", "test_setup_code"))
"""Keys of a user's row that are read here."""
_KEYS = {"asserts", "cases", "setup"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a program reads, and what it must write."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTests:
    """Tests of one prompt: `asserts`, a list of texts or one text; `cases`; `setup`, what runs before the asserts."""

    asserts: list[str] | str
    cases: list[Case]
    setup: str

    @classmethod
    def parse(cls, text: str) -> "CodeTests":
        """The tests in the column's text.

        Raises:
            ValueError: it is no such text.
        """
        if not _is_text(text):
            raise ValueError(f"the column `tests` is a JSON object with {', '.join(sorted(_KEYS))} (got {text[:60]!r})")
        content = json.loads(text)
        return cls(
            asserts=_asserts(content.get("asserts") or [], "asserts"),
            cases=[Case(**_case(one)) for one in _list(content.get("cases") or [], "cases")],
            setup=_setup(content.get("setup")),
        )


def to_text(row: Mapping[str, Any]) -> str | None:
    """The column's text for a user's row, None where the row has no tests; `tests` that is such a text stays.

    Raises:
        ValueError: a key is not of the type that it must be.
    """
    key = "tests" if row.get("tests") is not None else "test_list"
    given = row.get(key)
    if isinstance(given, str) and _is_text(given):
        return given
    tests: dict[str, Any] = {}
    if asserts := _asserts(given or [], key):
        tests["asserts"] = asserts
    if cases := [_case(one) for one in _list(row.get("cases") or [], "cases")]:
        tests["cases"] = cases
    if tests and (setup := _setup(row.get("test_setup_code"))):
        tests["setup"] = setup
    return json.dumps(tests, ensure_ascii=False, sort_keys=True) if tests else None


def _is_text(text: str) -> bool:
    """Whether a text is the JSON of tests, and no test itself."""
    try:
        content: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return _is_object(content) and bool(content) and set(content) <= _KEYS


def _asserts(given: object, key: str) -> list[str] | str:
    if isinstance(given, str):
        return given if given.strip() else []
    for one in _list(given, key):
        if not isinstance(one, str):
            raise ValueError(f"each of `{key}` is a text, an assert statement (got {type(one).__name__})")
    return cast(list[str], given)


def _case(given: object) -> dict[str, str]:
    if not _is_object(given) or not isinstance(given.get("stdout"), str) or not isinstance(given.get("stdin", ""), str):
        raise ValueError("each of `cases` is an object with the texts `stdin` and `stdout`")
    return {"stdin": given.get("stdin", ""), "stdout": given["stdout"]}


def _setup(given: object) -> str:
    if not isinstance(given, str | None):
        raise ValueError(f"`test_setup_code` is a text (got {type(given).__name__})")
    return given or ""


def _list(given: object, key: str) -> list[Any]:
    if not isinstance(given, list):
        raise ValueError(f"`{key}` must be a list{' or a text' * (key != 'cases')} (got {type(given).__name__})")
    return cast(list[Any], given)


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
