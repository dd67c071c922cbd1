"""Bring narratives into the form that synthesis takes: Documents of a bounded length, each text once.

A narrative grounds what a teacher writes. So it must be long enough for somebody to act in it, and short enough to
stand in a request beside instructions and answers. A longer one is a rejection or, with `cut=sections`, becomes
several, `ID/0`, `ID/1`, ..., that end where sentences and paragraphs do; `info` says where each stands in its text.
"""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field, model_validator

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Document, Rejection
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.narratives.sections import count_words, cut_sections

DEFAULT_METHOD = "user_texts"
Read = Callable[[], Iterable[Document | Rejection]]
"""A method with its config and its input; each call reads anew."""


class Config(Params):
    """Which method reads the narratives, which of them stay, and how many.

    Attributes:
        min_words: the least; in fewer nobody does anything that another could answer. Aesop's shortest fables have 50.
        max_words: the most; 400 English words are some 550 tokens, a quarter of a small model's context of 2,048.
        max_chars: the most, for texts whose words are no words, such as one line of base64.
        cut: what becomes of a text of more words: none rejects it.
        n_narratives: how many are drawn of those that stay, by `seed`; all where it is not given.
    """

    method: str = DEFAULT_METHOD
    min_words: int = Field(default=30, ge=1)
    max_words: int = Field(default=400, ge=1)
    max_chars: int = Field(default=8_000, ge=1)
    cut: Literal["none", "sections"] = "none"
    n_narratives: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _bounds_can_be_met(self) -> "Config":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words={self.min_words} is above max_words={self.max_words}; no text meets both")
        return self


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    method = load_method("datagen.narratives", name)
    return validate({**section, "method": name}, Config, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Documents; every other text is a rejection.

    Raises:
        DataError: no narrative is left.
    """
    config, raw = run.params[Config], run.inputs["raw"]
    method = load_method("datagen.narratives", config.method)
    read: Read = partial(getattr(method, config.method), run.params[method.Config], raw)
    drawn, n_left = _draw(config, read)
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        **made_of({"raw": raw}),
    }
    n_words = 0
    with DatasetWriter(run.out, Document, manifest) as writer, run.progress(None, "narratives") as bar:
        position = 0
        for rows in _narratives(config, read()):
            writer.read(len(rows))
            for row in rows:
                if isinstance(row, Document) and drawn is not None and position not in drawn:
                    detail = f"{len(drawn)} of {n_left} narratives were drawn with seed={config.seed}"
                    writer.reject(Rejection(id=row.id, stage=run.name, reason="not_drawn", detail=detail))
                else:
                    writer.put(row)
                    n_words += count_words(row.text) if isinstance(row, Document) else 0
                position += 1
            bar.advance(1)
        if not writer.rows_out:
            reasons = ", ".join(f"{reason} {n}" for reason, n in writer.reasons.most_common())
            raise DataError(f"{raw}: none of {writer.rows_in} narratives is left ({reasons}); mend them or the bounds")
    return {
        "rows": writer.rows,
        "rejected": dict(sorted(writer.reasons.items())),
        "words": n_words,
    }


def _narratives(config: Config, given: Iterable[Document | Rejection]) -> Iterator[list[Document | Rejection]]:
    """Of each text what becomes of it, before any are drawn: itself, its sections, or rejections."""
    seen: dict[bytes, str] = {}
    ids: set[str] = set()
    for row in given:
        if isinstance(row, Rejection):
            yield [row]
            continue
        sections = _cut(config, row)
        yield [_checked(config, one, seen) if one.id not in ids else _namesake(one) for one in sections]
        ids.update(one.id for one in sections)


def _cut(config: Config, row: Document) -> list[Document]:
    if config.cut == "none" or "\0" in row.text or count_words(row.text) <= config.max_words:
        return [row]
    info = {} if row.info is None else {"info": row.info}
    return [
        replace(
            row,
            id=f"{row.id}/{i}",
            text=row.text[start:end],
            info=json.dumps({"section_of": row.id, "start": start, "end": end} | info, ensure_ascii=False),
        )
        for i, (start, end) in enumerate(cut_sections(row.text, config.max_words))
    ]


def _namesake(row: Document) -> Rejection:
    detail = f"another text or section has the id {row.id!r}; give the texts ids of their own"
    return Rejection(id=row.id, stage="narratives", reason="duplicate_id", detail=detail)


def _checked(config: Config, row: Document, seen: dict[bytes, str]) -> Document | Rejection:
    def rejection(reason: str, detail: str) -> Rejection:
        return Rejection(id=row.id, stage="narratives", reason=reason, detail=detail)

    if (place := row.text.find("\0")) >= 0:
        return rejection("not_text", f"character {place} is NUL, which no text has; take it out")
    n_words = count_words(row.text)
    if n_words < config.min_words:
        return rejection("too_short", f"{n_words} words, the least is min_words={config.min_words}")
    if n_words > config.max_words:
        return rejection(
            "too_long", f"{n_words} words, the most is max_words={config.max_words}; cut=sections cuts such texts"
        )
    if len(row.text) > config.max_chars:
        return rejection("too_long", f"{len(row.text)} characters, the most is max_chars={config.max_chars}")
    digest = hashlib.sha256(" ".join(row.text.split()).encode()).digest()
    if (first := seen.setdefault(digest, row.id)) != row.id:
        return rejection("exact_duplicate", f"the same text as {first!r}")
    return row


def _draw(config: Config, read: Read) -> tuple[set[int] | None, int]:
    """Places of the narratives with the least hashes of seed and id, None for all; and how many there are."""
    if config.n_narratives is None:
        return None, 0
    rows = (row for rows in _narratives(config, read()) for row in rows)
    hashed = [
        (derive_seed(config.seed, "narratives", row.id), position)
        for position, row in enumerate(rows)
        if isinstance(row, Document)
    ]
    return {position for _, position in heapq.nsmallest(config.n_narratives, hashed)}, len(hashed)


STAGE = Stage(
    name="narratives",
    parse=parse,
    inputs={"raw": ".jsonl or .parquet file of rows with a `text`, dataset of Documents, or folder of text files"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
