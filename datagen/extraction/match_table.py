"""Rows of what the match stage writes: of each extracted text its nearest row, and what each measure says by itself.

Source: none; the columns that arXiv:2510.18554 compares by.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An extracted text, and the row of the training set whose embedding is nearest.

    Attributes:
        id: of the extracted text.
        neighbour_id: of the row.
        cosine: of the two embeddings, in [-1, 1].
        edit_similarity: of the same two texts, in [0, 1]; another row may be written more alike, see NearestText.
        indel_similarity: likewise.
    """

    id: str
    neighbour_id: str
    cosine: float
    edit_similarity: float
    indel_similarity: float

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "neighbour_id": pl.String,
        "cosine": pl.Float64,
        "edit_similarity": pl.Float64,
        "indel_similarity": pl.Float64,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestText:
    """The nearest text by one measure.

    Attributes:
        side: `extracted`, whose neighbour is a row of the training set, or `against`, where it is the other way round.
        id: of the text.
        measure: `cosine`, `edit` or `indel`.
        neighbour_id: of the text on the other side that is nearest by it.
        similarity: by it.
        matches: whether it reaches the threshold.
    """

    side: str
    id: str
    measure: str
    neighbour_id: str
    similarity: float
    matches: bool

    SCHEMA: ClassVar[dict[str, Any]] = {
        "side": pl.String,
        "id": pl.String,
        "measure": pl.String,
        "neighbour_id": pl.String,
        "similarity": pl.Float64,
        "matches": pl.Boolean,
    }
