"""Drop rows with the same text as an earlier one, or nearly so: MinHash finds candidates, exact Jaccard decides.

MinHash: Broder 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4; 5-word shingles at
0.8 as in Lee et al. 2022, Deduplicating Training Data Makes Language Models Better, arXiv:2107.06499, appendix A. They
confirm candidates by edit similarity, and drop along chains; here the Jaccard of the shingles themselves decides, and
only a row that stays is a reason to drop another, so each dropped row names one in the output that is like it.

A text is compared in Unicode's composed form, case-folded, white space aside; its shingles leave punctuation out. A
text without a word is dropped only for an equal one. Where rows are equal the first stays.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.cluster import map_chunks
from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Rejection
from datagen.contracts.words import normalise
from datagen.filter import Row
from datagen.filter._texts import TextParams, dropped, text_of

if TYPE_CHECKING:
    from datagen.filter._candidates import Index
    from datagen.filter._shingles import Signed

log = logging.getLogger(__name__)

BLOCK = 512  # rows signed at once
BLOCK_CHARS = 2**21  # of them, fewer rows where they are long


class Config(TextParams):
    """What is nearly the same, and how surely it is found.

    Attributes:
        threshold: least Jaccard similarity of two near-duplicates; at 1 their words are the same.
        shingle_words: n of the word n-grams that are compared.
        n_hashes: of the MinHash functions.
        min_recall: chance, at least, that a pair at the threshold is compared; the bands follow from it.
        max_compared: of the rows that stay with one band key, how many a row is compared with, the first ones. It
            bounds the time where very many rows are alike, but less than the threshold, such as those of one template;
            equal texts are found nonetheless. The log says how many rows it touched.
        seed: of the hash functions.
    """

    method: Literal["near_duplicates"]
    threshold: float = Field(default=0.8, gt=0, le=1)
    shingle_words: int = Field(default=5, ge=1)
    n_hashes: int = Field(default=128, ge=1, le=512)
    min_recall: float = Field(default=0.99, gt=0, lt=1)
    max_compared: int = Field(default=256, ge=1)
    seed: int = Field(default=0, ge=0)


def near_duplicates(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection `exact_duplicate` or `near_duplicate`, which names the row that stays.

    The rows are read twice. Memory: see `datagen.filter._candidates`.

    Raises:
        ParamsError: no bands of `n_hashes` reach `min_recall` at the threshold.
    """
    del against
    for row, duplicate in find_duplicates(config, rows):
        if isinstance(row, Rejection) or duplicate is None:
            yield row
        else:
            yield dropped(row, duplicate.reason, duplicate.detail)


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """That a row is dropped: the reason's code, why, and the id of the row that stays."""

    reason: str
    detail: str
    of: str


def find_duplicates(
    config: Config, rows: Iterable[Row | Rejection]
) -> Iterator[tuple[Row | Rejection, Duplicate | None]]:
    """Every row with what it repeats: None where it stays, or is a rejection already. Else as `near_duplicates`."""
    from datagen.filter import _candidates, _shingles

    bands = _shingles.choose_bands(config.threshold, config.n_hashes, config.min_recall)
    if bands is None:
        raise ParamsError(
            f"n_hashes: too few to find pairs of Jaccard {config.threshold:g} with min_recall={config.min_recall:g}; "
            f"give more, or ask for less (got {config.n_hashes})"
        )
    with ExitStack() as files:
        index = _candidates.Index(files, bands[0])
        _fill(index, rows, bands, config)
        log.info("near_duplicates: %d rows signed, %d bands of %d", index.n, *bands)
        found = _candidates.find_duplicates(index, config.threshold, config.max_compared)
        if n_crowded := int(found.crowded.sum()):
            log.warning(
                "near_duplicates: %d rows that stay have a band key that more than max_compared=%d others have, so a "
                "near-duplicate of theirs may stay too",
                n_crowded, config.max_compared,
            )  # fmt: skip
        number = 0
        for row in rows:
            if isinstance(row, Rejection):
                yield row, None
                continue
            if (kept := int(found.of[number])) < 0:
                yield row, None
                number += 1
                continue
            id = index.read(kept).id
            reason, detail = "exact_duplicate", f"same text as {id!r}, but for case and spaces"
            if not found.is_exact[number]:
                reason, detail = (
                    "near_duplicate",
                    (
                        f"near-duplicate of {id!r}: Jaccard {found.similarity[number]:.3f} of "
                        f"{config.shingle_words}-word shingles, threshold {config.threshold:g}"
                    ),
                )
            yield row, Duplicate(reason=reason, detail=detail, of=id)
            number += 1


def _fill(index: "Index", rows: Iterable[Row | Rejection], bands: tuple[int, int], config: Config) -> None:
    """Sign the rows, a chunk after the other, wherever a worker is free."""
    for chunk, signed in map_chunks(partial(sign_chunk, config, bands), _chunks(rows, config)):
        index.add([id for id, _ in chunk], signed)
    index.close()


def _chunks(rows: Iterable[Row | Rejection], config: Config) -> Iterator[list[tuple[str, str]]]:
    """Ids and texts of the rows, of at most `BLOCK` rows and, but for one row, `BLOCK_CHARS` characters."""
    chunk: list[tuple[str, str]] = []
    n_chars = 0
    for row in rows:
        if isinstance(row, Rejection):
            continue
        chunk.append((row.id, text_of(row, config.field)))
        n_chars += len(chunk[-1][1])
        if len(chunk) == BLOCK or n_chars > BLOCK_CHARS:
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk


def sign_chunk(config: Config, bands: tuple[int, int], chunk: Sequence[tuple[str, str]]) -> "Signed":
    """What a chunk of ids and texts is compared by."""
    from datagen.filter._shingles import sign_texts

    return sign_texts([normalise(text) for _, text in chunk], config.shingle_words, *bands, config.seed)
