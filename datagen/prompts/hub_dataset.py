"""Questions of a dataset on the Hugging Face Hub, or of a local folder that `datasets` reads.

Source: none of its own; GSM8K (Cobbe et al. 2021, arXiv:2110.14168) and MATH (Hendrycks et al. 2021, arXiv:2103.03874)
come this way at full size.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.inputs import BadRow, to_record
from datagen.contracts.params import Params
from datagen.contracts.records import Prompt, Rejection


class Config(Params):
    """Which rows, and which of their columns.

    `answer_pattern` is a regular expression whose first group is the reference; by default the whole column is, which
    `math_answer` reads wherever the answer stands in it. `instruction` is put after every question.
    """

    method: Literal["hub_dataset"]
    dataset: str
    subsets: tuple[str, ...] = ()
    split: str = "train"
    revision: str | None = None
    question_column: str = "question"
    answer_column: str | None = "answer"
    answer_pattern: str | None = None
    instruction: str = ""
    family: str = ""
    n_prompts: int | None = Field(None, gt=0)


def hub_dataset(config: Config, raw: Path | None) -> Iterator[Prompt | Rejection]:
    """The first `n_prompts` questions, subset by subset; one that repeats an earlier one word for word is rejected.

    `raw` is not used: the rows come through `datasets`, which keeps its own cache.

    Raises:
        MissingError: `datasets` is not installed, or the Hub does not have or give the dataset.
        DataError: a column is missing.
    """
    del raw
    seen: set[str] = set()
    position = 0
    for subset in config.subsets or (None,):
        for row in _load(config, subset):
            if config.n_prompts is not None and position == config.n_prompts:
                return
            place = f"{config.dataset}/{subset or 'default'}/{config.split}:{position}"
            position += 1
            try:
                prompt = _to_prompt(config, row, place, config.family or subset or "")
            except BadRow as bad:
                yield Rejection(id=place, stage="prompts", reason=bad.reason, detail=f"{place}: {bad}")
                continue
            if prompt.id in seen:
                yield Rejection(
                    id=place, stage="prompts", reason="duplicate", detail=f"{place}: equals prompt {prompt.id}"
                )
                continue
            seen.add(prompt.id)
            yield prompt


def _load(config: Config, subset: str | None) -> Iterator[dict[str, object]]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingError("method hub_dataset needs the package datasets: pip install 'datastill[lm]'") from None
    try:
        rows = datasets.load_dataset(config.dataset, subset, split=config.split, revision=config.revision)
    except (OSError, ValueError) as error:  # offline, no such dataset, subset or split: datasets has no narrower class
        reason = " ".join(str(error).split())
        raise MissingError(f"dataset {config.dataset!r} (subset {subset}, split {config.split}): {reason}") from None
    for column in (config.question_column, config.answer_column):
        if column is not None and column not in rows.column_names:
            raise DataError(
                f"dataset {config.dataset!r} has no column {column!r}; it has {', '.join(rows.column_names)}"
            )
    yield from rows


def _to_prompt(config: Config, row: dict[str, object], place: str, family: str) -> Prompt:
    question = row[config.question_column]
    reference = row[config.answer_column] if config.answer_column else None
    if config.answer_pattern and reference is not None:
        found = re.search(config.answer_pattern, str(reference))
        if not found:
            raise BadRow("no_answer", f"answer_pattern {config.answer_pattern!r} does not match the answer column")
        reference = found.group(1).strip()
    if config.instruction and isinstance(question, str):
        question = f"{question}\n{config.instruction}"
    user_row = {"prompt": question, "reference": reference, "family": family, "source": place}
    return to_record(user_row, Prompt, source=place)
