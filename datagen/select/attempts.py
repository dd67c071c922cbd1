"""The rows that verify judged, read from what it wrote: those that it kept, those that it dropped, and all verdicts.

A dataset that verify or select wrote holds every row that was ever judged: `part-*.parquet` those that were kept,
`rejected.parquet` those that were dropped, both in the order of `verdicts.parquet`, which names all of them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from datagen.contracts.dataset import iterate
from datagen.contracts.errors import DataError
from datagen.contracts.records import Rejection, Trace, Verdict, trace_from_row

SCHEMA = {
    "id": pl.String,
    "prompt_id": pl.String,
    "family": pl.String,
    "teacher": pl.String,
    "has_reference": pl.Boolean,
    "trace_score": pl.Float64,
    "best": pl.Boolean,
    "score": pl.Float64,
    "position": pl.UInt32,
}
"""Of an attempt: what the trace says, the verdict's `score`, and where it stands. `trace_score` and `best` are what
best_of_n said, `teacher` is the name that its dataset is given under, else the model's."""

_BATCH = 8192  # rows in memory at a time


def gather(datasets: Mapping[str, Path], file: Path) -> pl.LazyFrame:
    """The attempts in all datasets, in order, without their texts; they are written to `file` once and scanned there.

    Memory: grows with the number of attempts and the length of their ids, not with their texts.

    Args:
        datasets: teacher to dataset; the name "" leaves the teachers their own names.
        file: that may be written.

    Raises:
        DataError: verdicts and traces do not belong together, or two datasets hold the same id.
    """
    found = pl.concat(_attempts(*named) for named in datasets.items()).with_row_index("position")
    found.select(list(SCHEMA)).sink_parquet(file, maintain_order=True)
    attempts = pl.scan_parquet(file)
    lost = attempts.filter(pl.col("prompt_id").is_null()).select("id").head(1).collect()
    if len(lost):
        raise DataError(f"{_named(datasets)}: no trace {lost.item()!r}, which has a verdict; run verify again")
    repeated = attempts.group_by("id").len().filter(pl.col("len") > 1).select("id").head(1).collect()
    if len(repeated):
        raise DataError(
            f"{_named(datasets)}: more than one trace {repeated.item()!r}; give each row an id of its own, such as by "
            "a prefix for the teacher"
        )
    return attempts


def _attempts(teacher: str, dataset: Path) -> pl.LazyFrame:
    columns = {
        "teacher": pl.lit(teacher) if teacher else pl.col("teacher").fill_null(""),
        "family": pl.col("family").fill_null(""),
        "has_reference": pl.col("reference").is_not_null(),
        "trace_score": pl.col("score"),
    }
    traces = pl.concat(
        pl.scan_parquet(dataset / table).select("id", "prompt_id", "best", **columns)
        for table in ("part-*.parquet", "rejected.parquet")
    )
    verdicts = pl.scan_parquet(dataset / "verdicts.parquet").select("id", "score")
    return verdicts.join(traces, on="id", how="left", maintain_order="left")


def in_rows(frame: pl.LazyFrame) -> Iterator[dict[str, Any]]:
    """The rows of a query, in order, a bounded number of them as Python's objects."""
    for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
        yield from batch.iter_rows(named=True)


def judged(dataset: Path) -> Iterator[tuple[Trace, Verdict] | Rejection]:
    """Every row that was judged, in order, and the rejections of those that could not be.

    A row that could not be judged comes before the next one that was dropped; where it stood between those that were
    kept, nothing says.

    Raises:
        DataError: the tables do not belong together.
    """
    kept, dropped, rejections = (iterate(dataset, table) for table in ("part", "rejected", "rejections"))
    next_kept, next_dropped = next(kept, None), next(dropped, None)
    for verdict in iterate(dataset, "verdicts"):
        id = verdict["id"]
        if next_kept and next_kept["id"] == id:
            row, next_kept = next_kept, next(kept, None)
        elif next_dropped and next_dropped["id"] == id:
            row, next_dropped = next_dropped, next(dropped, None)
            yield from _until(id, rejections)
        else:
            raise DataError(f"{dataset}: verdicts and traces do not stand in one order at {id!r}; run verify again")
        yield trace_from_row(row), Verdict(**verdict)
    yield from (Rejection(**row) for row in rejections)


def _until(id: str, rejections: Iterator[dict[str, Any]]) -> Iterator[Rejection]:
    for row in rejections:
        if row["id"] == id:
            return
        yield Rejection(**row)


def _named(datasets: Mapping[str, Path]) -> str:
    return ", ".join(path.as_posix() for path in datasets.values())
