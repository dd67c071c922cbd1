"""A user's file of narratives; oracle: rows written by hand."""

from pathlib import Path

import pytest

from datagen.contracts.errors import DataError
from datagen.contracts.records import Document, Rejection
from datagen.narratives.user_texts import Config, user_texts
from tests.datagen.stages.conftest import write

CONFIG = Config(method="user_texts")


def test_each_row_is_a_document_or_says_what_it_lacks(tmp_path: Path):
    rows = write(tmp_path / "mine.jsonl", [{"id": "a", "text": "A fox ran.", "title": "Fox"}, {"id": "b", "text": " "}])
    kept, dropped = user_texts(CONFIG, rows)
    assert kept == Document(id="a", text="A fox ran.", source="mine.jsonl:1", info='{"title": "Fox"}')
    assert isinstance(dropped, Rejection) and (dropped.id, dropped.reason) == ("b", "empty_text")


def test_the_narratives_of_data_raw_can_be_read(root: Path):
    """All of the fifty are documents with a title, an origin and an id of their own."""
    rows = list(user_texts(CONFIG, root / "data/raw/narratives/narratives.jsonl"))
    assert len({row.id for row in rows}) == len(rows) == 50
    assert all(isinstance(row, Document) and row.info and '"title"' in row.info and row.source for row in rows)


def test_a_file_that_holds_no_texts_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"mine.jsonl:1 no `text`|mine.jsonl:1: no `text`"):
        user_texts(CONFIG, write(tmp_path / "mine.jsonl", [{"title": "Fox"}]))
