"""Oracle: rows written by hand, as .jsonl, .jsonl.gz and Parquet."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.contracts.errors import DataError
from datagen.contracts.records import Document, Rejection
from datagen.domains.rows import Config, rows

ROWS = [
    {"id": "a", "text": "Held.", "domain": "law", "licence": "MIT"},
    {"id": "b", "text": "x = 1", "domain": " code "},
    {"id": "c", "text": "Whose?", "domain": ""},
]
KEPT = [
    Document(id="a", text="Held.", source="f:1", domain="law", licence="MIT"),
    Document(id="b", text="x = 1", source="f:2", domain="code"),
]


def read(file: Path, **config: Any) -> list[Document | Rejection]:
    return list(rows(Config(**config), file))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_a_column_says_the_domain(suffix: str, tmp_path: Path):
    file, text = tmp_path / f"f{suffix}", "".join(json.dumps(row) + "\n" for row in ROWS)
    if suffix == ".parquet":
        pl.DataFrame(ROWS).write_parquet(file)
    else:
        file.write_bytes(gzip.compress(text.encode()) if suffix == ".jsonl.gz" else text.encode())
    first, second, third = read(file)
    assert [(one.id, one.text, one.domain, one.licence) for one in (first, second) if isinstance(one, Document)] == [
        (one.id, one.text, one.domain, one.licence) for one in KEPT
    ]
    assert isinstance(third, Rejection) and (third.id, third.reason) == ("c", "no_domain")


def test_columns_of_other_names(tmp_path: Path):
    """The column `text` that the file has besides is not read where `content` is; others are kept in `info`."""
    file = tmp_path / "f.jsonl"
    file.write_text(json.dumps({"content": "Held.", "text": "no", "meta": "law", "year": 3}) + "\n")
    (row,) = read(file, domain_column="meta", text_column="content")
    assert isinstance(row, Document)
    assert (row.text, row.domain, row.info) == ("Held.", "law", '{"year": 3}')


def test_a_file_of_one_domain(tmp_path: Path):
    file = tmp_path / "f.jsonl"
    file.write_text('{"text": "Held."}\n{"text": "So.", "domain": "other"}\n')
    assert [one.domain for one in read(file, domain="law") if isinstance(one, Document)] == ["law", "law"]


def test_no_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="--raw: method rows reads a file"):
        list(rows(Config(), None))
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "f.jsonl")
