"""Drop texts that are too short or too long, in words and in characters.

Source: none of its own; a bound on length is part of most filters, such as those of Rae et al. 2021, Scaling Language
Models, arXiv:2112.11446, table A1, whose bounds for pages of the web are 50 and 100,000 words.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Rejection
from datagen.contracts.words import find_words
from datagen.filter import Row
from datagen.filter._texts import TextParams, dropped, text_of


class Config(TextParams):
    """Bounds, both ends included; what is not given is no bound, and one must be given."""

    method: Literal["length"]
    min_words: int = Field(default=0, ge=0)
    max_words: int | None = Field(default=None, ge=1)
    min_chars: int = Field(default=0, ge=0)
    max_chars: int | None = Field(default=None, ge=1)


def length(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection `too_short` or `too_long`; words before characters.

    Raises:
        ParamsError: no bound, or bounds that no text meets.
    """
    _check_bounds(config)
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        text = text_of(row, config.field)
        measured = (
            ("words", len(find_words(text)), config.min_words, config.max_words),
            ("characters", len(text), config.min_chars, config.max_chars),
        )
        for unit, n, low, high in measured:
            if n < low:
                yield dropped(row, "too_short", f"{n} {unit}, the least is {low}")
                break
            if high is not None and n > high:
                yield dropped(row, "too_long", f"{n} {unit}, the most is {high}")
                break
        else:
            yield row


def _check_bounds(config: Config) -> None:
    bounds = (("words", config.min_words, config.max_words), ("chars", config.min_chars, config.max_chars))
    if all(low == 0 and high is None for _, low, high in bounds):
        raise ParamsError("method length needs a bound; give one of min_words, max_words, min_chars, max_chars")
    for unit, low, high in bounds:
        if high is not None and low > high:
            raise ParamsError(f"min_{unit}: must not be above max_{unit}={high} (got {low})")
