"""Corpora that a teacher writes from source texts in several steps: one file a method.

emo_pillars  utterances of the characters of a narrative, softly labelled, with and without context
rationale    a label of each text and the reason for it, as two tasks of a language model
rephrase     each text as questions, a table, a tutorial and an exercise

A method is a plain async function; `flow` says what it may do.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from datagen.contracts.records import Document, Record
from datagen.synthesis.flow import Flow


class SynthesisMethod(Protocol):
    """The function that a method module is named after.

    Besides it the module offers `Config`, `RECORD` (the type of the rows), `TABLES` (side tables, name to type) and
    `identity(config)`: hashes of what it reads beside the source, such as prompts, for the manifest.
    Where what one source wrote counts for those after it, `memory(config)` gives what they share, and `closing(memory)`
    the tables and figures that are known at the end.
    """

    async def __call__(self, config: Any, source: Document, flow: Flow) -> Sequence[Record]:
        """What became of one source: rows, in order. What is dropped on the way goes through `flow`."""
        ...
