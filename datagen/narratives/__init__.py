"""Where narratives come from: one source a file, in a fixed order; a text that is none is given as a rejection.

text_files  a folder of plain text files, each a narrative, such as the books of Project Gutenberg
user_texts  a user's own file of rows with a text; data/raw/narratives is one

Beside them sections.py cuts a long text where sentences and paragraphs end.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from datagen.contracts.records import Document, Rejection


class NarrativesMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, raw: Path) -> Iterable[Document | Rejection]:
        """The narratives in `raw`, the same in every run."""
        ...
