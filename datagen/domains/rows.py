"""One file of rows, a column of which says the domain: .jsonl, .jsonl.gz, .parquet, or a dataset of Documents.

Source: none; corpora that are already joined come this way, such as SlimPajama's with its column of names.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import DataError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Document, Rejection


class Config(InputParams):
    """Which columns; a file of one domain is named by `domain`, and then has no column for it."""

    method: Literal["rows"] = "rows"
    domain_column: str = Field(default="domain", min_length=1)
    text_column: str = Field(default="text", min_length=1)
    domain: str | None = None


def rows(config: Config, raw: Path | None) -> Iterator[Document | Rejection]:
    """Every row of `raw` in its order; one without a domain is the rejection `no_domain`.

    Raises:
        DataError: unreadable, or too many rows that cannot be used.
    """
    if raw is None:
        raise DataError("--raw: method rows reads a file of rows; name it")
    columns = {config.domain_column: "domain", config.text_column: "text"}
    for row in Rows(raw, Document, "domains", config, columns=columns):
        if isinstance(row, Document):
            name = config.domain if config.domain is not None else row.domain.strip()
            if not name:
                detail = (
                    f"{row.source}: no `{config.domain_column}`; fill it, name another by domain_column, or set domain"
                )
                yield Rejection(id=row.id, stage="domains", reason="no_domain", detail=detail)
                continue
            row = replace(row, domain=name)
        yield row
