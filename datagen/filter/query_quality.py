"""Drop questions that are no good for a teacher: garbled, incomplete, with addresses of pages, or with tables.

DeepDistill, arXiv:2504.17565, drops queries with a high share of Unicode, incomplete ones, those that bear URLs and
those that bear tables, and gives no thresholds: the rules below are our reading. The first that a question breaks is
its reason: `high_unicode`, `incomplete`, `url`, `table`.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.contracts.records import Rejection
from datagen.contracts.words import find_words
from datagen.filter import Row
from datagen.filter._texts import dropped, text_of

_URL = re.compile(r"https?://\S+|\bwww\.\S+", re.IGNORECASE)
_PIPES = re.compile(r"^[^|\n]*\|[^|\n]*\|.*$")  # a line of at least two
_TAGGED = re.compile(r"<table\b|\\begin\{(?:tabular|array|longtable)", re.IGNORECASE)
_OPEN_END = re.compile(
    r"(?:[,(\[{]|\b(?:a|an|and|at|because|but|by|for|from|if|in|is|of|or|than|that|the|to|when|where|with))$",
    re.IGNORECASE,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_NO_BRACKET = re.compile(r"^\s*\(?\w{1,3}\)|[:;=]-?[()\[\]{}]", re.MULTILINE)  # "a)" and "12)" before a part, ":("


class Config(Params):
    """Bounds on a question; a document is taken as one.

    Attributes:
        max_unicode_share: of characters outside ASCII among those that are no white space; 1 for languages other than
            English.
        min_words: fewer are incomplete.
        max_urls: how many addresses it may hold.
        min_table_rows: lines with at least two `|`, or with two tabs, that follow each other and make a table. A table
            in HTML or LaTeX is always one.
    """

    method: Literal["query_quality"]
    max_unicode_share: float = Field(default=0.2, ge=0, le=1)
    min_words: int = Field(default=3, ge=0)
    max_urls: int = Field(default=0, ge=0)
    min_table_rows: int = Field(default=2, ge=1)


def query_quality(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection; of a prompt and a trace what the user says counts, all turns together."""
    for row in rows:
        if not isinstance(row, Rejection) and (fault := _find_fault(text_of(row, "prompt"), config)):
            yield dropped(row, *fault)
        else:
            yield row


def _find_fault(text: str, config: Config) -> tuple[str, str] | None:
    """Reason and detail of the first rule that the text breaks."""
    if (share := _unicode_share(text)) > config.max_unicode_share:
        return "high_unicode", f"{share:.3f} of its characters are not ASCII, the most is {config.max_unicode_share:g}"
    if why := _why_incomplete(text, config.min_words):
        return "incomplete", why
    if len(urls := _URL.findall(text)) > config.max_urls:
        return "url", f"holds {len(urls)} addresses, the most is {config.max_urls}; the first is {urls[0]}"
    if tagged := _TAGGED.search(text):
        return "table", f"holds a table: {tagged[0]}"
    if (n_rows := _n_table_rows(text)) >= config.min_table_rows:
        return "table", f"holds a table of {n_rows} lines"
    return None


def _unicode_share(text: str) -> float:
    visible = "".join(text.split())
    return sum(not character.isascii() for character in visible) / len(visible) if visible else 0.0


def _why_incomplete(text: str, min_words: int) -> str | None:
    """Too short, ends in the middle of a sentence, or opens what it does not close."""
    if (n_words := len(find_words(text))) < min_words:
        return f"has {n_words} words, the least is {min_words}"
    if end := _OPEN_END.search(text.rstrip()):
        return f"ends in the middle of a sentence, on {end[0]!r}"
    if text.count("```") % 2:
        return "opens a code block that it does not close"
    if left_open := _find_open(_NO_BRACKET.sub("", text)):
        return f"opens {left_open!r} and does not close it"
    return None


def _find_open(text: str) -> str | None:
    """The first bracket that is opened and not closed; nothing is said of ones that are closed and not opened."""
    stack: list[str] = []
    for character in text:
        if character in "([{":
            stack.append(character)
        elif character in _PAIRS:
            if stack and stack[-1] == _PAIRS[character]:
                stack.pop()
            else:
                return None  # intervals such as [0, 1) mix them, so that no more can be said
    return stack[0] if stack else None


def _n_table_rows(text: str) -> int:
    """The longest run of lines that look like rows of a table."""
    longest = run = 0
    for line in text.splitlines():
        run = run + 1 if _PIPES.match(line) or line.strip().count("\t") >= 2 else 0
        longest = max(longest, run)
    return longest
