"""Texts that are compared, out of rows of any record, and those that set a threshold.

Source: none; question and answer are one text, as in arXiv:2510.18554.

Trace              the last user message, a line break, the answer
Prompt             the last user message, and after a line break the reference, where there is one
Document, Example  the text
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datagen.contracts.errors import DataError
from datagen.contracts.fields import is_object
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.records import Document, Example, Prompt, Rejection, Trace


@dataclass(frozen=True, slots=True)
class Text:
    """One of them; `paraphrase` says the same in other words, where somebody wrote that."""

    id: str
    text: str
    paraphrase: str | None = None


@dataclass(frozen=True, slots=True)
class Unseen:
    """Texts that the model never saw.

    Attributes:
        texts: those that can be used, each text once.
        not_used: why others cannot, by reason.
        n_in_extracted: of `texts`, that stand among the extracted ones as they are.
    """

    texts: list[Text]
    not_used: Counter[str] = field(default_factory=Counter[str])
    n_in_extracted: int = 0


def read_texts(path: Path, stage: str, params: InputParams) -> list[Text | Rejection]:
    """The rows of an input, in order.

    Raises:
        DataError: no such input, records without a text, or too large a share of rows that cannot be used.
    """
    return [_text_of(row, stage) for row in open_rows(path, stage, params)]


def usable(path: Path, rows: Sequence[Text | Rejection]) -> list[Text]:
    """Those that are texts.

    Raises:
        DataError: there is none.
    """
    texts = [row for row in rows if isinstance(row, Text)]
    if not texts:
        raise DataError(f"{path}: none of {len(rows)} rows has a text to compare; give some that do")
    return texts


def unseen_texts(
    path: Path,
    rows: Sequence[Text | Rejection],
    extracted: Collection[str],
    against: Collection[str],
    max_share: float,
) -> Unseen:
    """Those that may set a threshold: each text once, and none that stands in the training set.

    One that the model wrote word for word counts, as it is a false match if ever there was one. But more than
    `max_share` of either kind says that the model did see them.

    Args:
        path: of the file, for errors.
        rows: as read.
        extracted: what the model wrote.
        against: the training set.
        max_share: of the rows.

    Raises:
        DataError: too many stand in one of the two sets, so they were seen.
    """
    written, trained_on = ({text.strip() for text in texts} for texts in (extracted, against))
    texts: list[Text] = []
    not_used = Counter(row.reason for row in rows if isinstance(row, Rejection))
    seen: set[str] = set()
    n_written = 0
    for row in rows:
        if isinstance(row, Rejection):
            continue
        text = row.text.strip()
        if text in trained_on or (row.paraphrase or text).strip() in trained_on:
            not_used["in_against"] += 1
        elif text in seen:
            not_used["duplicate_text"] += 1
        else:
            seen.add(text)
            texts.append(row)
            n_written += text in written
    for n, where in ((not_used["in_against"], "the training set"), (n_written, "the extracted texts")):
        if n > max_share * len(rows):
            allowed = min(1.0, n / len(rows) + 0.005)
            raise DataError(
                f"{path}: {n} of {len(rows)} texts stand in {where} as they are; a threshold is set by texts that the "
                f"model never saw: give others, or allow them by max_rejected_share={allowed:.2f}"
            )
    return Unseen(texts, not_used, n_written)


def _text_of(row: Prompt | Trace | Document | Example | Rejection, stage: str) -> Text | Rejection:
    if isinstance(row, Rejection):
        return row
    if isinstance(row, Document | Example):
        text = row.text
    elif isinstance(row, Trace):
        text = f"{row.prompt.text}\n{row.completion}"
    else:
        text = f"{row.text}\n{row.reference}" if row.reference else row.text
    if not text.strip():
        return Rejection(id=row.id, stage=stage, reason="empty_text", detail="there is no text to compare")
    info = None if isinstance(row, Trace) else row.info
    given: object = json.loads(info) if info else None
    paraphrase: object = given.get("paraphrase") if is_object(given) else None
    if paraphrase is not None and not (isinstance(paraphrase, str) and paraphrase.strip()):
        detail = f"paraphrase is {paraphrase!r}; give a text, or leave it out"
        return Rejection(id=row.id, stage=stage, reason="bad_paraphrase", detail=detail)
    return Text(row.id, text, paraphrase)
