"""Where prompts come from: one source a file, in a fixed order; a row that is no prompt is given as a rejection.

gsm8k                 grade-school word problems, from a slice in data/raw
hub_dataset           any dataset on the Hugging Face Hub
instruction_families  tasks with verifiable instructions, made from the real texts in data/raw
user_rows             a user's own file, in the formats that people have
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from datagen.contracts.records import Prompt, Rejection


class PromptsMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, raw: Path | None) -> Iterable[Prompt | Rejection]:
        """The prompts, the same in every run; `raw` is a folder of raw material or a user's file."""
        ...
