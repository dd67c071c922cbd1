"""Where texts of several domains come from: one source a file, in a fixed order; a text that is none is a rejection.

folder       a file or a sub-folder a domain, of text files or rows
hub_dataset  datasets of the Hugging Face Hub, a domain each or by a column
rows         one file of rows, a column of which says the domain
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from datagen.contracts.records import Document, Rejection


class DomainsMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, raw: Path | None) -> Iterable[Document | Rejection]:
        """The texts in `raw`, the same in every run, each with its `domain`; ids are unique within a domain."""
        ...
