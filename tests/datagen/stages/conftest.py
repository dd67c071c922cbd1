"""What tests of stages share: a home of their own, rows as files, tables as rows."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$DATASTILL_HOME within the test's folder."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def write(path: Path, rows: list[Any]) -> Path:
    """A .jsonl file of the rows; a text is a line as it stands."""
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def table(directory: Path, pattern: str = "part-*.parquet") -> list[dict[str, Any]]:
    """The rows of a dataset's table."""
    return pl.read_parquet(directory / pattern).to_dicts()


def hashes(folder: Path) -> dict[str, str]:
    """Of every file."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def n_answers(home: Path) -> int:
    """In the ledger, read with sqlite3 itself."""
    file = home / "ledger.sqlite"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as ledger:
        return ledger.execute("SELECT count(*) FROM answers").fetchone()[0]
