"""Drop rows that share an n-gram of words with an item of an evaluation set, or whose question means the same.

by=ngram: Brown et al. 2020, Language Models are Few-Shot Learners, arXiv:2005.14165, appendix C: a 13-gram of words, in
lower case and without punctuation, that a training text has in common with a test item. An item of fewer words, but at
least 8 (the least n there), counts as one n-gram of all its words; a shorter one drops a row only where it is its whole
question or text. Other than there the whole row goes, not a window around the n-gram, and an n-gram that many rows have
still counts: rows here are short, and many attempts at one test question are as many rows.

Of an evaluation item its question counts, and its reference or answer where that has n words. Whatever hash finds is
confirmed word by word.

by=embedding: DeepDistill, arXiv:2504.17565, drops queries whose embedding has a cosine above 0.9 with an item's. The
threshold belongs to the encoder, which the paper does not name. Questions are compared, and documents; long ones in
windows, any of which may match. It finds rewordings, and misses an item in a longer text, which by=ngram finds: run
both.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from datagen.contracts.cluster import in_chunks, map_chunks
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.contracts.words import find_words, normalise
from datagen.filter import Row
from datagen.filter._texts import STAGE, TextParams, dropped, text_of

if TYPE_CHECKING:
    import torch

    from datagen.filter._shingles import Hashes

log = logging.getLogger(__name__)

TAKES_AGAINST = True
BLOCK = 1024  # rows compared at once
_OF_THE_OTHER = {"ngram": {"min_similarity", "embedder"}, "embedding": {"field", "n", "min_words"}}


class Config(TextParams):
    """What a row must have in common with an item.

    Attributes:
        by: n-grams of words, or embeddings of questions.
        n: words in a row that must be the same, by n-gram.
        min_words: of an item that has fewer than `n`, but so many, all must be the same, by n-gram.
        min_similarity: the cosine must be above it, by embedding.
        embedder: `all-minilm-l6-v2`, or another name that `datagen.backends.embeddings` takes.
    """

    method: Literal["decontamination"]
    by: Literal["ngram", "embedding"] = "ngram"
    n: int = Field(default=13, ge=1)
    min_words: int = Field(default=8, ge=1)
    min_similarity: float = Field(default=0.9, gt=-1, lt=1)
    embedder: str = "all-minilm-l6-v2"


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
    """Every row, or its rejection `contaminated`, which names the item, and the words or the cosine.

    In memory: the evaluation items, with 16 bytes for each of their words, or a vector for each.

    Raises:
        ParamsError: no `against`, `min_words` above `n`, or a parameter that the other way to compare takes.
        DataError: an evaluation item that cannot be read, since it could not be kept out.
        MissingError: no such embedder.
    """
    if against is None:
        raise ParamsError("method decontamination needs the evaluation set: name it with --against PATH")
    if unused := config.model_fields_set & _OF_THE_OTHER[config.by]:
        raise ParamsError(f"{min(unused)}: means nothing to by={config.by}; leave it out")
    if config.min_words > config.n:
        raise ParamsError(f"min_words: must not be above n={config.n} (got {config.min_words})")
    return (_by_n_gram if config.by == "ngram" else _by_embedding)(config, rows, against)


def _read_items(against: Path) -> Iterator[Row]:
    for item in open_rows(against, STAGE, InputParams(max_rejected_share=0, max_prompt_chars=10**9)):
        if not isinstance(item, Rejection):  # there is none: the first would have been an error
            yield item


def _by_embedding(config: Config, rows: Iterable[Row | Rejection], against: Path) -> Iterator[Row | Rejection]:
    import torch

    from datagen.backends.embeddings import embed_windows

    asked = ((item.id, text) for item in _read_items(against) if (text := text_of(item, "prompt").strip()))
    ids: list[str] = []
    parts: list[torch.Tensor] = []
    for block in in_chunks(asked, BLOCK):
        vectors, of_text = embed_windows([text for _, text in block], config.embedder)
        ids += [block[at][0] for at in of_text.tolist()]
        parts.append(vectors)
    if not ids:
        raise DataError(f"{against}: no evaluation item has a question or a text; give some that have")
    items = torch.cat(parts)
    log.info("decontamination: %d vectors of %s", len(items), against.name)
    for read, similar in map_chunks(partial(_most_similar, config, items), in_chunks(rows, BLOCK)):
        for i, row in enumerate(read):
            if i in similar and not isinstance(row, Rejection):
                cosine, item = similar[i]
                detail = f"cosine {cosine:.3f} with item {ids[item]!r} of {against.name} by {config.embedder}"
                yield dropped(row, "contaminated", detail)
            else:
                yield row


def _most_similar(
    config: Config, items: "torch.Tensor", rows: Sequence[Row | Rejection]
) -> dict[int, tuple[float, int]]:
    """`find_items` of the rows that ask something, by their place among `rows`."""
    from datagen.backends.embeddings import embed_windows

    texts = {i: text for i, row in enumerate(rows) if (text := _question(row))}
    if not texts:
        return {}
    places = list(texts)
    found = find_items(*embed_windows(list(texts.values()), config.embedder), items, config.min_similarity)
    return {places[at]: one for at, one in found.items()}


def find_items(
    vectors: "torch.Tensor", of_text: "torch.Tensor", items: "torch.Tensor", min_similarity: float
) -> dict[int, tuple[float, int]]:
    """The greatest cosine of each text that is above the bound, and the item: of equal ones the first window's.

    Args:
        vectors: (W, E) of the texts' windows.
        of_text: (W,) the text of each.
        items: (N, E).
        min_similarity: the bound.
    """
    import numpy as np

    from datagen.backends.neighbours import nearest

    found = nearest(vectors.numpy(), items.numpy(), least=min_similarity)
    best: dict[int, tuple[float, int]] = {}
    for window in np.flatnonzero(found.similarities > min_similarity).tolist():
        text, one = int(of_text[window]), (float(found.similarities[window]), int(found.rows[window]))
        best[text] = max(best.get(text, one), one, key=itemgetter(0))
    return best


def _question(row: Row | Rejection) -> str:
    return "" if isinstance(row, Rejection) else text_of(row, "prompt").strip()


def _by_n_gram(config: Config, rows: Iterable[Row | Rejection], against: Path) -> Iterator[Row | Rejection]:
    items = _Items(config)
    for item in _read_items(against):
        items.add(item)
    items.close()
    log.info("decontamination: %d evaluation items of %s", items.n, against.name)
    for read, matches in map_chunks(partial(_find_all, items), in_chunks(rows, BLOCK)):
        for row, match in zip(read, matches, strict=True):
            if match is None or isinstance(row, Rejection):
                yield row
                continue
            words = " ".join(match.words)
            detail = f"shares {len(match.words)} words in a row with item {match.item!r} of {against.name}: {words!r}"
            yield dropped(row, "contaminated", detail)


def _find_all(items: "_Items", rows: Sequence[Row | Rejection]) -> list[_Match | None]:
    return [None if isinstance(row, Rejection) else items.find(row) for row in rows]


class _Items:
    """Evaluation items by their n-grams."""

    def __init__(self, config: Config) -> None:
        self.n = 0
        self._config = config
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
        hashes = self._hash(words, n)
        self._found.setdefault(n, []).append((hashes, len(self._texts)))
        self._texts.append((id, " ".join(words)))

    def _hash(self, words: list[str], n: int) -> "Hashes":
        from datagen.filter import _shingles

        of_words, _ = _shingles.hash_words([" ".join(words).encode("utf-8", "surrogatepass")])
        return _shingles.hash_n_grams(of_words, n)

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
        hashes = self._hash(words, n)
        at = np.minimum(np.searchsorted(place.hashes, hashes), len(place.hashes) - 1)
        for start in np.flatnonzero(place.hashes[at] == hashes).tolist():
            id, text = self._texts[place.texts[at[start]]]
            there = place.words[at[start]]
            if text.split(" ")[there : there + n] == words[start : start + n]:
                return _Match(id, words[start : start + n])
        return None
