"""What is left out: one filter a file, each gives every row back as it was, or a rejection with the cause.

decontamination      rows that share an n-gram of words with an evaluation item, or whose question means the same
language             texts in a language that is not wanted
length               texts that are too short or too long
missing_parts        traces without their reasoning or their answer, or cut off
near_duplicates      rows with the same text as an earlier one, or nearly so, by MinHash and exact Jaccard
perplexity           answers that one scoring model finds too surprising, by their teacher's bound
personal_data        e-mail addresses, phone and card numbers, masked or their rows dropped
query_quality        questions that are garbled or incomplete, or bear addresses of pages or tables
repetition           texts in which an n-gram stands too often
semantic_duplicates  rows that mean the same as an earlier one, by the cosine of their embeddings
turns                conversations of too few or too many turns, or whose roles do not alternate
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from datagen.contracts.records import Document, Example, Prompt, Rejection, Trace

Row = Prompt | Trace | Document | Example


class FilterMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
        """What becomes of each row, in order.

        Args:
            config: the method's Config.
            rows: iterable as often as needed; a row that cannot be used comes as its rejection and goes on so.
            against: what to compare with; the stage takes it for methods whose module says `TAKES_AGAINST = True`.
        """
        ...
