"""Grade-school word problems with their final answers, from a slice of GSM8K's training part.

Cobbe et al. Training Verifiers to Solve Math Word Problems. 2021. arXiv:2110.14168; the answer stands after `####`
(section 2). The instruction to end on it in the same way is ours.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Message, Prompt, content_id

FILE = "gsm8k/train.jsonl"
INSTRUCTION = "Think step by step, then write the final answer alone on the last line after ####."


class Config(Params):
    """Which rows: `n_prompts` from row `first_row` on, so that two sections need share none."""

    method: Literal["gsm8k"]
    first_row: int = Field(default=0, ge=0)
    n_prompts: int = Field(default=100, ge=1)


def reads(config: Config) -> tuple[str, ...]:
    """What is read of the folder."""
    return (FILE,)


def gsm8k(config: Config, raw: Path | None) -> Iterator[Prompt]:
    """The rows in their order, each with its answer as the reference.

    Raises:
        ParamsError: no `raw`, or rows beyond the slice's end; method hub_dataset has all of GSM8K.
        DataError: the slice is missing or not GSM8K's.
    """
    if raw is None:
        raise ParamsError("method gsm8k needs the folder of raw material: --raw data/raw")
    path = raw / FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: missing; method gsm8k reads its rows there") from None
    end = config.first_row + config.n_prompts
    if end > len(lines):
        raise ParamsError(f"n_prompts: rows {config.first_row} to {end} are asked for, {path} has {len(lines)}")
    for number, line in enumerate(lines[config.first_row : end], start=config.first_row + 1):
        try:
            row = json.loads(line)
            reference = row["answer"].split("####")[1].strip()
            messages: list[Message] = [{"role": "user", "content": f"{row['question']}\n{INSTRUCTION}"}]
        except (json.JSONDecodeError, KeyError, IndexError) as error:
            raise DataError(f"{path}:{number}: no question with an answer after ####: {error!r}") from None
        yield Prompt(
            id=content_id(messages, reference),
            messages=messages,
            family="gsm8k",
            reference=reference,
            source=f"gsm8k/train/{number}",
        )
