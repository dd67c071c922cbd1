"""Drop texts in a language that is not wanted.

Source: Lui and Baldwin, langid.py: An Off-the-shelf Language Identification Tool, ACL 2012, as py3langid continues it:
a naive Bayes model of byte n-grams over 97 languages. Its probabilities are tempered by the text's length, so that 0.5
means as much of a long text as of a short one.

A text is judged by its first `max_chars` characters, in lower case, since the model learned from ordinary case.
Formulas and code have letters and no language: where answers are full of them, judge the question by `field=prompt`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.backends.languages import known_languages, ranked_languages
from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Rejection
from datagen.filter import Row
from datagen.filter._texts import TextParams, dropped, text_of


class Config(TextParams):
    """Which languages stay.

    Attributes:
        languages: ISO 639-1 codes of those that may stay.
        min_confidence: of the probabilities of these languages together, at least.
        min_letters: a text of fewer is not judged and stays; a few words may be of any language.
        max_chars: of a text that are read.
    """

    method: Literal["language"]
    languages: list[str] = Field(default=["en"], min_length=1)
    min_confidence: float = Field(default=0.5, gt=0, le=1)
    min_letters: int = Field(default=20, ge=1)
    max_chars: int = Field(default=5000, ge=1)


def language(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection `language`, which names the most probable one and the confidence in those wanted.

    Raises:
        ParamsError: a language that the model does not know, or the answer is asked for and the rows are Prompts.
    """
    known = known_languages()
    if unknown := [one for one in config.languages if one not in known]:
        raise ParamsError(f"languages: {unknown[0]!r} is none of those known: {', '.join(sorted(known))}")
    for row in rows:
        if not isinstance(row, Rejection) and (detail := _fault(text_of(row, config.field), config)):
            yield dropped(row, "language", detail)
        else:
            yield row


def _fault(text: str, config: Config) -> str | None:
    start = text[: config.max_chars].lower()
    if sum(map(str.isalpha, start)) < config.min_letters:
        return None
    ranked = ranked_languages(start)
    confidence = sum(probability for code, probability in ranked if code in config.languages)
    if confidence >= config.min_confidence:
        return None
    best, probability = ranked[0]
    wanted = " or ".join(config.languages)
    return f"{best} at {probability:.2f}, {wanted} at {confidence:.2f}, the least is {config.min_confidence:g}"
