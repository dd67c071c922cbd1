"""A user's own file, in any of the formats that `datagen.contracts.inputs` reads.

Source: none; this is the door for data that is already there (ShareGPT, TRL, environments' rows, IFEval's file).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from datagen.contracts.errors import ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Prompt, Rejection


class Config(InputParams):
    """Bounds on what the file may hold."""

    method: Literal["user_rows"]


def user_rows(config: Config, raw: Path | None) -> Iterable[Prompt | Rejection]:
    """Every row of the .jsonl or .parquet file or dataset directory `raw`.

    Raises:
        ParamsError: no `raw`.
        DataError: unreadable, or too many rows that cannot be used.
    """
    if raw is None:
        raise ParamsError("method user_rows reads your file: name it with --raw FILE.jsonl")
    return Rows(raw, Prompt, "prompts", config)
