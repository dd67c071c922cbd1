"""Drop texts that loop: one n-gram stands more often than a bound.

DeepDistill, arXiv:2504.17565, and Tian et al. 2025, Not All Correct Answers Are Equal, arXiv:2505.14464, section 2: an
n-gram of 20 tokens more than 20 times. Tokens are words here, case aside, so that no tokenizer is needed and every
teacher is measured alike; `datastill compare_teachers` counts the scorer's tokens. An n-gram's places may overlap.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.records import Rejection
from datagen.contracts.words import find_words, normalise
from datagen.filter import Row
from datagen.filter._texts import TextParams, dropped, text_of


class Config(TextParams):
    """The length of an n-gram in words, and how often it may stand in one text."""

    method: Literal["repetition"]
    n: int = Field(default=20, ge=1)
    max_count: int = Field(default=20, ge=1)


def repetition(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection `repetition`, which names the most frequent n-gram; of equal ones the first."""
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        words = find_words(normalise(text_of(row, config.field)))
        n_grams = Counter(tuple(words[i : i + config.n]) for i in range(_n_to_count(len(words), config)))
        worst, count = n_grams.most_common(1)[0] if n_grams else ((), 0)
        if count > config.max_count:
            said = f"{config.n} words in a row stand {count} times, the most is {config.max_count}"
            yield dropped(row, "repetition", f"{said}: {' '.join(worst)!r}")
        else:
            yield row


def _n_to_count(n_words: int, config: Config) -> int:
    """How many n-grams there are; none, where there are too few for any to stand too often."""
    n_grams = max(n_words - config.n + 1, 0)
    return n_grams if n_grams > config.max_count else 0
