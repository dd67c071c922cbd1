"""Texts of datasets on the Hugging Face Hub, or of local folders that `datasets` reads.

Source: none of its own; SlimPajama, the Pile's parts or WikiText (Merity et al. 2016, arXiv:1609.07843) come this way.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.inputs import BadRow, to_record
from datagen.contracts.params import Params
from datagen.contracts.records import Document, Rejection


class Source(Params):
    """One dataset: which rows, and which domain they are of.

    Attributes:
        domain: of all its rows; where neither it nor `domain_column` is given, the subset, else the dataset's name.
        domain_column: of the rows, each of which says its own.
        licence: of all its rows; where it is not given, that of the dataset's card, which may name none.
        n_rows: bounds the rows taken, from the first on.
    """

    dataset: str
    subsets: tuple[str, ...] = ()
    split: str = "train"
    revision: str | None = None
    text_column: str = "text"
    domain: str | None = None
    domain_column: str | None = None
    licence: str | None = None
    n_rows: int | None = Field(default=None, gt=0)


class Config(Params):
    """The datasets, one after the other."""

    method: Literal["hub_dataset"] = "hub_dataset"
    sources: tuple[Source, ...] = Field(min_length=1)


def hub_dataset(config: Config, raw: Path | None) -> Iterator[Document | Rejection]:
    """Every text, dataset by dataset; its id is its place. Rows without text or domain are rejections.

    `raw` is not used: the rows come through `datasets`, which keeps its own cache.

    Raises:
        MissingError: `datasets` is not installed, or the Hub does not have or give the dataset.
        DataError: a column is missing.
    """
    del raw
    for source in config.sources:
        for subset in source.subsets or (None,):
            table = _load(source, subset)
            licence = source.licence or table.info.license or ""
            name = source.domain or subset or source.dataset.rstrip("/").rpartition("/")[2]
            for position, row in enumerate(islice(table, source.n_rows)):
                place = f"{source.dataset}/{subset or 'default'}/{source.split}:{position}"
                try:
                    yield _to_document(source, dict(row), place, name, licence)
                except BadRow as bad:
                    yield Rejection(id=place, stage="domains", reason=bad.reason, detail=f"{place}: {bad}")


def _to_document(source: Source, row: dict[str, Any], place: str, name: str, licence: str) -> Document:
    if source.domain_column:
        name = str(row[source.domain_column] or "").strip()
        if not name:
            raise BadRow("no_domain", f"no `{source.domain_column}`")
    ours = {"id": place, "text": row[source.text_column], "source": place, "domain": name}
    return to_record(ours | {"licence": row.get("licence") or row.get("license") or licence}, Document, source=place)


def _load(source: Source, subset: str | None) -> Any:  # a datasets.Dataset, whose package has no types of its own
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingError("method hub_dataset needs the package datasets: pip install 'datastill[lm]'") from None
    try:
        rows: Any = datasets.load_dataset(source.dataset, subset, split=source.split, revision=source.revision)
    except (OSError, ValueError) as error:  # offline, no such dataset, subset or split: datasets has no narrower class
        reason = " ".join(str(error).split())
        raise MissingError(f"dataset {source.dataset!r} (subset {subset}, split {source.split}): {reason}") from None
    for column in (source.text_column, source.domain_column):
        if column is not None and column not in rows.column_names:
            raise DataError(
                f"dataset {source.dataset!r} has no column {column!r}; it has {', '.join(rows.column_names)}"
            )
    return rows
