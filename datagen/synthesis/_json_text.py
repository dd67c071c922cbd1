"""JSON objects in the text of an answer, as models write them.

What is tolerated beside RFC 8259: text around an object, fences too; a comma after the last element; single quotes;
True, False and None; line breaks in strings, and escapes that JSON does not know; an end that is missing. Nothing is
guessed: a quotation mark within a string or a missing comma ends the reading. The text is read once, from the left, so
time grows with its length whatever it holds.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_DEPTH = 100
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_QUOTED = r"'(?:[^'\\]++|\\.)*+'"
_OPENING = re.compile(rf"\{{\s*+(?:\}}|(?:{_STRING}|{_QUOTED})\s*+:)", re.DOTALL)
_TOKEN = re.compile(
    rf"\s*+(?:(?P<string>{_STRING})|(?P<quoted>{_QUOTED})|(?P<mark>[{{}}\[\],:])"
    r"|(?P<number>-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+)(?=[\s,\]}])"
    r"|(?P<word>true|false|null|True|False|None)(?=[\s,\]}])"
    r"|(?P<end>\Z|[\"']|-?+[0-9+.eE-]*+\Z|[a-zA-Z]++\Z))",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\(?P<other>.)|(?P<mark>")', re.DOTALL)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class Broken(ValueError):
    """An object that cannot be read, and whether that is since the text ends in it."""

    def __init__(self, said: str, *, is_cut: bool) -> None:
        super().__init__(said)
        self.is_cut = is_cut


@dataclass(frozen=True, slots=True)
class Found:
    """A value in the text.

    Attributes:
        value: an object, or an array that begins with one.
        is_cut: the text ends in it. Then the object has the fields that are whole, and of an array among its own fields
            the elements that are, where there is one; whatever else is not whole is left out.
    """

    value: Any
    is_cut: bool = False


def parse(text: str) -> Any:
    """The value that the whole text is, by RFC 8259.

    Raises:
        ValueError: it is none; a number that is not finite is none.
        RecursionError: it is nested too deep.
    """
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def find(text: str) -> Iterator[Found]:
    """The objects in a text and the arrays that begin with one, from the left, none within another.

    Raises:
        Broken: one has a key and a colon, and then something else than JSON; what follows may be its inside.
    """
    place = 0
    while opening := _OPENING.search(text, place):
        start = opening.start()
        for i in range(start - 1, place - 1, -1):
            if text[i] == "[":
                start = i
            elif not text[i].isspace():
                break
        reader = _Reader(text, start)
        yield Found(reader.whole(), reader.is_cut)
        place = reader.place


class _Cut(Exception):
    """The text ends."""


class _Reader:
    """Reads one value; `place` is behind what was read."""

    def __init__(self, text: str, place: int) -> None:
        self.place = place
        self.is_cut = False
        self._text = text
        self._match = _TOKEN.match

    def whole(self) -> Any:
        try:
            return self._value(self._token(), depth=0)
        except _Cut:
            raise Broken("it ends before the first element is whole", is_cut=True) from None

    def _token(self) -> re.Match[str]:
        """The next token, past it."""
        token = self._match(self._text, self.place)
        if token is None:
            self._fail("a value or a mark", self.place)
        if token.lastgroup == "end":
            raise _Cut
        self.place = token.end()
        return token

    def _fail(self, expected: str, place: int) -> NoReturn:
        seen = " ".join(self._text[place : place + 20].split())
        raise Broken(f"at character {place} {expected} is expected, and there is {seen!r}", is_cut=False)

    def _value(self, token: re.Match[str], depth: int) -> Any:
        kind = token.lastgroup or ""
        said = token[kind]
        if kind == "string":
            return _unescaped(said[1:-1]) if "\\" in said else said[1:-1]
        if kind == "number":
            return self._number(said, token.start(kind))
        if kind == "quoted":
            return _unescaped(said[1:-1]) if "\\" in said or '"' in said else said[1:-1]
        if kind == "word":
            return _WORDS[said]
        if depth >= MAX_DEPTH:
            raise Broken(f"it is nested deeper than {MAX_DEPTH}", is_cut=False)
        if said == "{":
            return self._object(depth)
        if said == "[":
            return self._array(depth)
        self._fail("a value", token.start("mark"))

    def _number(self, said: str, place: int) -> int | float:
        try:
            return int(said) if said.isdigit() or said[1:].isdigit() else float(said)
        except ValueError:  # Python reads integers up to a length
            self._fail("a shorter number", place)

    def _object(self, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        try:
            while True:
                token = self._token()
                if token["mark"] == "}":
                    return fields
                if token.lastgroup not in ("string", "quoted"):
                    self._fail("a key", token.start(token.lastgroup or 0))
                key = self._value(token, depth)
                token = self._token()
                if token["mark"] != ":":
                    self._fail("a colon", token.start(token.lastgroup or 0))
                fields[key] = self._value(self._token(), depth + 1)
                if self._is_over("}"):
                    return fields
        except _Cut:
            if depth:
                raise
            self.is_cut = True
            self.place = len(self._text)
            return fields

    def _array(self, depth: int) -> list[Any]:
        elements: list[Any] = []
        try:
            while True:
                token = self._token()
                if token["mark"] == "]":
                    return elements
                elements.append(self._value(token, depth + 1))
                if self._is_over("]"):
                    return elements
        except _Cut:
            if depth != 1 or not elements:
                raise
            self.is_cut = True
            self.place = len(self._text)
            return elements

    def _is_over(self, closing: str) -> bool:
        """Whether the container ends here; else a comma was read."""
        token = self._token()
        mark = token["mark"]
        if mark != "," and mark != closing:
            self._fail(f"a comma or {closing}", token.start(token.lastgroup or 0))
        return mark == closing


def _unescaped(body: str) -> str:
    """What a string says; an escape that JSON does not know stands for its letter."""

    def known(found: re.Match[str]) -> str:
        if found["mark"]:
            return '\\"'
        return found[0] if found["other"] is None else found["other"]

    return json.loads(f'"{_ESCAPE.sub(known, body)}"', strict=False)
