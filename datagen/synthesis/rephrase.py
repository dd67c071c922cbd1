"""Each text in other forms: questions with answers, a table, a tutorial, an exercise; grounded in a span of it.

Maini et al. Rephrasing the Web: A Recipe for Compute and Data-Efficient Language Modeling. 2024. arXiv:2401.16380,
section 3: a model rephrases pieces of a document of at most 300 tokens in a style. Departures: these four styles, each
a template that may be replaced; pieces are cut at the ends of paragraphs or sentences and bounded in characters, since
no tokenizer is asked. Every row names its source, and its span in it is in the table `spans`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import polars as pl
from pydantic import Field

from datagen.contracts.params import Params
from datagen.contracts.records import Document
from datagen.synthesis._templates import Templates
from datagen.synthesis.flow import Dropped, Flow

Style = Literal["questions", "table", "tutorial", "exercise"]
STYLES: tuple[Style, ...] = get_args(Style)
_END = re.compile(r"\n\s*\n|(?<=[.!?])[\"'\u201d\u2019)]*\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where in its source, `parent`, the text stands that row `id` rephrases: characters from `start` to `end`."""

    id: str
    parent: str
    style: str
    start: int
    end: int

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String, "parent": pl.String, "style": pl.String, "start": pl.Int64, "end": pl.Int64
    }  # fmt: skip


RECORD = Document
TABLES: dict[str, Any] = {"spans": Span}


class Config(Params):
    """Which styles; how long a piece may be; prompts in place of the packaged ones."""

    method: Literal["rephrase"]
    styles: tuple[Style, ...] = Field(default=STYLES, min_length=1)
    max_piece_chars: int = Field(default=1500, ge=100)
    templates: Path | None = None


def identity(config: Config) -> dict[str, str]:
    """Of the prompts."""
    return {"templates": _templates(config.templates).revision}


async def rephrase(config: Config, source: Document, flow: Flow) -> list[Document]:
    """Every piece in every style, by piece; an answer that was cut at its length limit is dropped (`cut_off`)."""
    found = enumerate(pieces(source.text, config.max_piece_chars))
    cut = [(i, span, style) for i, span in found for style in config.styles]

    async def write(one: tuple[int, tuple[int, int], str]) -> Document:
        i, (start, end), style = one
        id = f"{source.id}/{i}/{style}"
        asked = _templates(config.templates).ask(style, {"text": source.text[start:end]})
        answer = await flow.ask(style, id, asked)
        if answer.finish_reason == "length":
            raise Dropped("cut_off", f"step {style}: the answer is as long as max_new_tokens allows; raise it")
        flow.put("spans", Span(id=id, parent=source.id, style=style, start=start, end=end))
        return Document(id=id, text=answer.text, source=source.id)

    return await flow.each(cut, write, id=lambda one: f"{source.id}/{one[0]}/{one[2]}")


def pieces(text: str, max_chars: int) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces of at most `max_chars` that together are the text, but for blank ones.

    Each ends on the last end of a paragraph or sentence that fits, else on the last space, else where it must.
    """
    start = 0
    while len(text) - start > max_chars:
        window = text[start : start + max_chars]
        ends = [match.end() for match in _END.finditer(window)] or [window.rfind(" ") + 1]
        end = start + (ends[-1] or max_chars)
        if text[start:end].strip():
            yield start, end
        start = end
    if text[start:].strip():
        yield start, len(text)


@cache
def _templates(own: Path | None) -> Templates:
    return Templates("rephrase", own)
