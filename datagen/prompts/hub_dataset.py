"""Questions of a dataset on the Hugging Face Hub, or of a local folder that `datasets` reads.

Source: none of its own; GSM8K (Cobbe et al. 2021, arXiv:2110.14168) and MATH (Hendrycks et al. 2021, arXiv:2103.03874)
come this way at full size.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.inputs import BadRow, to_record
from datagen.contracts.params import Params
from datagen.contracts.records import Prompt, Rejection, content_id


class Source(Params):
    """One dataset: which rows, and which of their columns.

    `answer_pattern` is a regular expression whose first group is the reference; by default the whole column is, which
    `math_answer` reads wherever the answer stands in it. `instruction` is put after every question. `n_prompts` bounds
    the rows taken, from the first on.
    """

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


class Config(Params):
    """The datasets, one after the other."""

    method: Literal["hub_dataset"]
    sources: tuple[Source, ...] = Field(min_length=1)


def hub_dataset(config: Config, raw: Path | None) -> Iterator[Prompt | Rejection]:
    """Every question, dataset by dataset; one that was asked before word for word is rejected, whatever its answer.

    `raw` is not used: the rows come through `datasets`, which keeps its own cache.

    Raises:
        MissingError: `datasets` is not installed, or the Hub does not have or give the dataset.
        DataError: a column is missing.
    """
    del raw
    asked: dict[str, str] = {}
    for source in config.sources:
        for position, (subset, row) in enumerate(islice(_rows(source), source.n_prompts)):
            place = f"{source.dataset}/{subset or 'default'}/{source.split}:{position}"
            try:
                prompt = _to_prompt(source, row, place, source.family or subset or "")
            except BadRow as bad:
                yield Rejection(id=place, stage="prompts", reason=bad.reason, detail=f"{place}: {bad}")
                continue
            question = content_id(prompt.messages)
            if question in asked:
                detail = f"{place}: asks the same as prompt {asked[question]}"
                yield Rejection(id=place, stage="prompts", reason="duplicate", detail=detail)
                continue
            asked[question] = prompt.id
            yield prompt


def _rows(source: Source) -> Iterator[tuple[str | None, dict[str, object]]]:
    for subset in source.subsets or (None,):
        for row in _load(source, subset):
            yield subset, row


def _load(source: Source, subset: str | None) -> Iterator[dict[str, object]]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingError("method hub_dataset needs the package datasets: pip install 'datastill[lm]'") from None
    try:
        rows = datasets.load_dataset(source.dataset, subset, split=source.split, revision=source.revision)
    except (OSError, ValueError) as error:  # offline, no such dataset, subset or split: datasets has no narrower class
        reason = " ".join(str(error).split())
        raise MissingError(f"dataset {source.dataset!r} (subset {subset}, split {source.split}): {reason}") from None
    for column in (source.question_column, source.answer_column):
        if column is not None and column not in rows.column_names:
            raise DataError(
                f"dataset {source.dataset!r} has no column {column!r}; it has {', '.join(rows.column_names)}"
            )
    for row in rows:
        yield dict(row)


def _to_prompt(source: Source, row: dict[str, object], place: str, family: str) -> Prompt:
    question = row[source.question_column]
    reference = row[source.answer_column] if source.answer_column else None
    if source.answer_pattern and reference is not None:
        found = re.search(source.answer_pattern, str(reference))
        if not found:
            raise BadRow("no_answer", f"answer_pattern {source.answer_pattern!r} does not match the answer column")
        reference = found.group(1).strip()
    if source.instruction and isinstance(question, str):
        question = f"{question}\n{source.instruction}"
    user_row = {"prompt": question, "reference": reference, "family": family, "source": place}
    return to_record(user_row, Prompt, source=place)
