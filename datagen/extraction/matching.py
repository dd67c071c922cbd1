"""What a model wrote beside what it was trained on, by each measure and in both directions.

Extracting alignment data in open models. 2025. arXiv:2510.18554: the share of the extracted texts that match any row of
the training set, and the share of its rows that any extracted text matches. The second grows with the number of
samples, the first does not.

cosine   of embeddings, datagen/extraction/embedding_match.py
edit     similarity by Levenshtein distance, datagen/extraction/string_match.py
indel    similarity by insertions and deletions, likewise
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.backends.embeddings import EMBEDDED
from datagen.backends.neighbours import Neighbours
from datagen.extraction.embedding_match import nearest_by_embedding, nearest_cosines, pair_cosines
from datagen.extraction.string_match import edit_similarity, indel_similarity, nearest_by_edits, nearest_by_indels

Measure = Literal["cosine", "edit", "indel"]
MEASURES: tuple[Measure, ...] = ("cosine", "edit", "indel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one measure says of R extracted texts, N rows of the training set and U texts that the model never saw.

    Attributes:
        of_extracted: (R,) of each extracted text, the nearest row of the training set.
        of_against: (N,) of each row of the training set, the nearest extracted text.
        unseen_in_against: (U,) of each unseen text, the similarity with the nearest row of the training set.
        unseen_by_extracted: (U,) of each unseen text, the similarity with the nearest extracted text.
    """

    of_extracted: Neighbours
    of_against: Neighbours
    unseen_in_against: NDArray[np.float32]
    unseen_by_extracted: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares in [0, 1] that match at a threshold.

    Attributes:
        extracted: of the extracted texts, with a row of the training set.
        against: of the training set's rows, with an extracted text.
        false_extracted: of the unseen texts, with a row of the training set.
        false_against: of the unseen texts, with an extracted text.
    """

    extracted: float
    against: float
    false_extracted: float
    false_against: float


def compare(
    extracted: Sequence[str],
    against: Sequence[str],
    unseen: Sequence[str],
    *,
    measures: Sequence[Measure] = MEASURES,
    embedder: str = EMBEDDED,
    workers: int = 1,
) -> dict[Measure, Compared]:
    """Every extracted text against every row of the training set, and unseen texts against both.

    Args:
        extracted: what the model wrote.
        against: rows that it may have been trained on.
        unseen: texts of the same kind that it never saw.
        measures: by which.
        embedder: a name that datagen.backends.embeddings takes.
        workers: threads that compare strings.

    Raises:
        MissingError: no such embedder.
        DataError: it gives a vector that is not finite.
    """
    return {measure: _compare(measure, extracted, against, unseen, embedder, workers) for measure in measures}


def rates(compared: Compared, threshold: float) -> Rates:
    """The shares whose nearest is at least this similar."""
    return Rates(
        extracted=_share(compared.of_extracted.similarities, threshold),
        against=_share(compared.of_against.similarities, threshold),
        false_extracted=_share(compared.unseen_in_against, threshold),
        false_against=_share(compared.unseen_by_extracted, threshold),
    )


def pair_similarities(
    texts: Sequence[str], others: Sequence[str], measure: Measure, *, embedder: str = EMBEDDED
) -> NDArray[np.float32]:
    """(R,) of each text the similarity with the one at its place in `others`."""
    if measure == "cosine":
        return pair_cosines(texts, others, embedder=embedder)
    similarity = edit_similarity if measure == "edit" else indel_similarity
    return np.array([similarity(one, other) for one, other in zip(texts, others, strict=True)], np.float32)


def _compare(
    measure: Measure,
    extracted: Sequence[str],
    against: Sequence[str],
    unseen: Sequence[str],
    embedder: str,
    workers: int,
) -> Compared:
    if measure == "cosine":
        of_extracted, of_against = nearest_by_embedding(extracted, against, embedder=embedder)
        in_against = nearest_cosines(unseen, against, embedder=embedder)
        by_extracted = nearest_cosines(unseen, extracted, embedder=embedder)
    else:
        nearest = nearest_by_edits if measure == "edit" else nearest_by_indels
        of_extracted, of_against = nearest(extracted, against, workers=workers)
        in_against = nearest(unseen, against, workers=workers)[0].similarities
        by_extracted = nearest(unseen, extracted, workers=workers)[0].similarities
    return Compared(
        of_extracted=of_extracted,
        of_against=of_against,
        unseen_in_against=in_against,
        unseen_by_extracted=by_extracted,
    )


def _share(similarities: NDArray[np.float32], threshold: float) -> float:
    return float(np.mean(similarities >= threshold)) if len(similarities) else 0.0
