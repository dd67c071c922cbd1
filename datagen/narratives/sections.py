"""Cuts a long text into sections, where sentences and, if it can be, paragraphs end."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from datagen.contracts.words import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_CLOSING = "\"')\\]\u2019\u201d\u00bb\u300d\u300f"  # quotation marks and brackets
_SENTENCE_END = re.compile(rf"[.!?\u2026]+[{_CLOSING}]*(?=\s+[^\sa-z])|[\u3002\uff01\uff1f]+[{_CLOSING}]*")
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Rev|Hon|Capt|Col|Gen|Sgt|No|[A-Z])\.$")  # no sentence ends on them
_NEARLY = 0.75  # of a section: from here on it ends with its paragraph


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence, or as many words of a longer one as a section takes; `ends` where a paragraph does."""

    start: int
    end: int
    n_words: int
    ends: bool


def count_words(text: str) -> int:
    """Runs of what is no white space; of scripts without spaces between words (Chinese, Thai, ...), characters."""
    return sum(1 for _ in _WORD.finditer(text))


def cut_sections(text: str, max_words: int) -> list[tuple[int, int]]:
    """Start and end of each section in `text`, in order: together all of its words, at most `max_words` in each.

    They are about equally long, rather than full ones and a rest. A sentence is cut only where it alone is longer than
    a section.
    """
    pieces = list(_pieces(text, max_words))
    n_left = sum(piece.n_words for piece in pieces)
    sections: list[tuple[int, int]] = []
    first = 0
    while first < len(pieces):
        end, n_taken = _next_section(pieces, first, n_left, max_words)
        sections.append((pieces[first].start, pieces[end - 1].end))
        first, n_left = end, n_left - n_taken
    return sections


def _next_section(pieces: list[_Piece], first: int, n_left: int, max_words: int) -> tuple[int, int]:
    """The end of the section that starts with piece `first`, of which on there are `n_left` words; and its words."""
    if n_left <= max_words:
        return len(pieces), n_left
    n_sections = math.ceil(n_left / max_words)
    wanted = n_left / n_sections
    n_taken = 0
    for i in range(first, len(pieces)):
        if n_taken + pieces[i].n_words > max_words:
            return i, n_taken
        n_taken += pieces[i].n_words
        rest_fits = n_left - n_taken <= (n_sections - 1) * max_words
        if n_taken >= wanted or (pieces[i].ends and n_taken >= _NEARLY * wanted and rest_fits):
            return i + 1, n_taken
    raise AssertionError("the pieces hold fewer words than they say")


def _pieces(text: str, max_words: int) -> Iterator[_Piece]:
    start = 0
    for end in [*(match.start() for match in _PARAGRAPH_END.finditer(text)), len(text)]:
        sentences = list(_sentences(text, start, end))
        for i, (first, last) in enumerate(sentences):
            words = [match.span() for match in _WORD.finditer(text, first, last)]
            for j in range(0, len(words), max_words):
                part = words[j : j + max_words]
                is_last = i == len(sentences) - 1 and j + max_words >= len(words)
                yield _Piece(part[0][0], part[-1][1], len(part), is_last)
        start = end


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in _SENTENCE_END.finditer(text, start, end):
        if not _TITLE.search(text[max(start, match.end() - 12) : match.end()]):
            yield start, match.end()
            start = match.end()
    if text[start:end].strip():
        yield start, end
