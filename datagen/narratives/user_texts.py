"""A user's own file: a .jsonl or .parquet file of rows with a `text`, or a dataset of Documents.

Source: none; this is the door for texts that are already there. `id` and `source` may stand beside `text`; whatever
else a row holds, such as a title, is kept as JSON text in `info`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Document, Rejection


class Config(InputParams):
    """Bounds on what the file may hold; of a few narratives one bad row is a large share."""

    method: Literal["user_texts"]
    max_rejected_share: float = Field(default=0.5, ge=0, le=1)


def user_texts(config: Config, raw: Path) -> Iterable[Document | Rejection]:
    """Every row of the .jsonl or .parquet file or dataset directory `raw`.

    Raises:
        DataError: unreadable, or too many rows that cannot be used.
    """
    return Rows(raw, Document, "narratives", config)
