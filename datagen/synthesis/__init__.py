"""Corpora that a teacher writes from source texts in several steps: one file a method.


A method is a plain async function; `flow` says what it may do.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from datagen.contracts.records import Document, Record
from datagen.synthesis.flow import Flow


class SynthesisMethod(Protocol):
    """The function that a method module is named after.

    Besides it the module offers `Config`, `RECORD` (the type of the rows) and `TABLES` (side tables, name to type); and
    `memory(config)` where what one source wrote counts for those after it.
    """

    async def __call__(self, config: Any, source: Document, flow: Flow) -> Sequence[Record]:
        """What became of one source: rows, in order. What is dropped on the way goes through `flow`."""
        ...
