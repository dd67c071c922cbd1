"""Several teachers' datasets: folders in a folder, each named after its teacher."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from datagen.contracts.dataset import is_dataset, iterate, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.records import BAD_ANSWERS

_ATTEMPT = re.compile(r"(?P<prompt>.+)#(?P<index>\d+)\.[0-9a-f]{8}", re.DOTALL)  # a trace's id, see contracts.records


def find_teachers(folder: Path) -> dict[str, Path]:
    """Name to dataset of Traces, by name.

    Raises:
        DataError: there is none, or one holds other rows.
    """
    found = {path.name: path for path in sorted(folder.iterdir()) if is_dataset(path)} if folder.is_dir() else {}
    if not found:
        raise DataError(f"{folder}: holds no dataset directory; give the folder with one for each teacher, named so")
    for path in found.values():
        if (held := read_manifest(path).get("record", "no")) != "Trace":
            raise DataError(f"{path}: holds {held} rows; a teacher's folder holds Trace rows, from traces or verify")
    return found


def is_judged(dataset: Path) -> bool:
    """Whether verify wrote it: then its rows are what was kept, and what was dropped stands beside them."""
    return (dataset / "verdicts.parquet").is_file() and (dataset / "rejected.parquet").is_file()


def answers(dataset: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Rows of all Traces, those in the dataset first, and whether each is in it rather than beside it."""
    beside = iterate(dataset, "rejected") if is_judged(dataset) else ()
    return chain(((row, True) for row in iterate(dataset)), ((row, False) for row in beside))


def prompts(dataset: Path) -> dict[str, str]:
    """Id to family of every prompt that has an answer."""
    return dict(_scan(dataset).select("prompt_id", pl.col("family").fill_null("")).unique().collect().iter_rows())


def models(dataset: Path) -> set[str]:
    """Names of the models that answered, where they are known."""
    return set(_scan(dataset).select("teacher").unique().collect()["teacher"]) - {"", None}


def _scan(dataset: Path) -> pl.LazyFrame:
    tables = ["part-*.parquet", *(["rejected.parquet"] if is_judged(dataset) else [])]
    return pl.concat(pl.scan_parquet(dataset / table) for table in tables)


def unanswered(traces: Path) -> list[tuple[str, int]]:
    """Prompt id and sample index of the attempts at which the teacher said nothing that could be judged.

    A request that a server refused or lost says nothing of the teacher, and is no attempt.
    """
    rows = (row for row in iterate(traces, "rejections") if row["reason"] in BAD_ANSWERS)
    matches = (_ATTEMPT.fullmatch(row["id"]) for row in rows)
    return [(match["prompt"], int(match["index"])) for match in matches if match]
