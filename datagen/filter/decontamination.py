"""Drop rows that share an n-gram of words with an item of an evaluation set.

Brown et al. 2020, Language Models are Few-Shot Learners, arXiv:2005.14165, appendix C: a 13-gram of words, in lower
case and without punctuation, that a training text has in common with a test item. An item of fewer words, but at least
8 (the least n there), counts as one n-gram of all its words; a shorter one drops a row only where it is its whole
question or text. Other than there the whole row goes, not a window around the n-gram, and an n-gram that many rows have
still counts: rows here are short, and many attempts at one test question are as many rows.

Of an evaluation item its question counts, and its reference or answer where that has n words. Whatever hash finds is
confirmed word by word.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from datagen.contracts.errors import ParamsError
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.filter import Row
from datagen.filter._texts import STAGE, TextParams, dropped, find_words, normalise, text_of

if TYPE_CHECKING:
    from datagen.filter._shingles import Hashes

log = logging.getLogger(__name__)

TAKES_AGAINST = True


class Config(TextParams):
    """How many words in a row must be the same: `n`, or all of an item that has fewer, but `min_words` or more."""

    method: Literal["decontamination"]
    n: int = Field(default=13, ge=1)
    min_words: int = Field(default=8, ge=1)


class _Match(NamedTuple):
    """What a row has in common with an evaluation item."""

    item: str
    words: list[str]


class _Place(NamedTuple):
    """Where n-grams of one length stand: the distinct hashes, sorted, with the text and the word that each is at."""

    hashes: "Hashes"
    texts: list[int]
    words: list[int]


def decontamination(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection `contaminated`, which names the item and the words.

    In memory: the evaluation items, and 16 bytes for each of their words.

    Raises:
        ParamsError: no `against`, or `min_words` above `n`.
        DataError: an evaluation item that cannot be read, since it could not be kept out.
    """
    if against is None:
        raise ParamsError("method decontamination needs the evaluation set: name it with --against PATH")
    if config.min_words > config.n:
        raise ParamsError(f"min_words: must not be above n={config.n} (got {config.min_words})")
    items = _Items(config)
    for item in open_rows(against, STAGE, InputParams(max_rejected_share=0, max_prompt_chars=10**9)):
        if not isinstance(item, Rejection):  # there is none: the first would have been an error
            items.add(item)
    items.close()
    log.info("decontamination: %d evaluation items of %s", items.n, against.name)
    for row in rows:
        if isinstance(row, Rejection):
            yield row
        elif match := items.find(row):
            words = " ".join(match.words)
            detail = f"shares {len(match.words)} words in a row with item {match.item!r} of {against.name}: {words!r}"
            yield dropped(row, "contaminated", detail)
        else:
            yield row


class _Items:
    """Evaluation items by their n-grams."""

    def __init__(self, config: Config) -> None:
        from datagen.filter import _shingles

        self.n = 0
        self._config = config
        self._shingles = _shingles
        self._hashes = _shingles.WordHashes()
        self._texts: list[tuple[str, str]] = []  # id of the item, its words with one space between
        self._short: dict[str, str] = {}  # a whole question of too few words, to its item
        self._found: dict[int, list[tuple[Hashes, int]]] = {}  # n to the hashes of each text
        self._places: dict[int, _Place] = {}

    def add(self, item: Row) -> None:
        """Its question, and its answer where that is long enough."""
        self.n += 1
        answer = item.completion if isinstance(item, Trace) else item.reference if isinstance(item, Prompt) else None
        question, words = find_words(normalise(text_of(item, "prompt"))), find_words(normalise(answer or ""))
        if len(question) >= self._config.min_words:
            self._add(item.id, question)
        elif question:
            self._short.setdefault(" ".join(question), item.id)
        if len(words) >= self._config.n:
            self._add(item.id, words)

    def _add(self, id: str, words: list[str]) -> None:
        n = min(self._config.n, len(words))
        hashes = self._shingles.hash_n_grams(words, n, self._hashes)
        self._found.setdefault(n, []).append((hashes, len(self._texts)))
        self._texts.append((id, " ".join(words)))

    def close(self) -> None:
        """Sort what was added, so that it can be found; of equal n-grams the first item's."""
        import numpy as np

        for n, found in self._found.items():
            hashes, first = np.unique(np.concatenate([one for one, _ in found]), return_index=True)
            texts = np.concatenate([np.full(len(one), text, np.int32) for one, text in found])[first]
            words = np.concatenate([np.arange(len(one), dtype=np.int32) for one, _ in found])[first]
            self._places[n] = _Place(hashes, texts.tolist(), words.tolist())
        self._found = {}

    def find(self, row: Row) -> _Match | None:
        """The longest of the row's n-grams that an item has too, and of these the first; else its whole text."""
        words = find_words(normalise(text_of(row, self._config.field)))
        for n in sorted(self._places, reverse=True):
            if match := self._find(words, n):
                return match
        for whole in (words, find_words(normalise(text_of(row, "prompt")))):
            if item := self._short.get(" ".join(whole)):
                return _Match(item, whole)
        return None

    def _find(self, words: list[str], n: int) -> _Match | None:
        import numpy as np

        place = self._places[n]
        hashes = self._shingles.hash_n_grams(words, n, self._hashes)
        at = np.minimum(np.searchsorted(place.hashes, hashes), len(place.hashes) - 1)
        for start in np.flatnonzero(place.hashes[at] == hashes).tolist():
            id, text = self._texts[place.texts[at[start]]]
            there = place.words[at[start]]
            if text.split(" ")[there : there + n] == words[start : start + n]:
                return _Match(id, words[start : start + n])
        return None
