"""A folder of text files; oracle: files written by hand."""

from pathlib import Path

import pytest

from datagen.contracts.errors import DataError
from datagen.contracts.records import Document, Rejection
from datagen.narratives.text_files import Config, text_files

CONFIG = Config(method="text_files")


def test_each_file_is_a_document_named_by_its_place(tmp_path: Path):
    """By name: of Windows, with its mark and line ends; in Latin-1; without text; in a folder; and another kind."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfA fox\r\nran.")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt").write_text(" \n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.txt").write_text("A wolf.")
    (tmp_path / "notes.md").write_text("Not a narrative.")
    rows = list(text_files(CONFIG, tmp_path))
    assert [row for row in rows if isinstance(row, Document)] == [
        Document(id="a", text="A fox\nran.", source="a.txt"),
        Document(id="book/one", text="A wolf.", source="one.txt"),
    ]
    dropped = [(row.id, row.reason, row.detail) for row in rows if isinstance(row, Rejection)]
    assert dropped == [
        ("b", "not_utf8", "b.txt: byte 3 is not UTF-8; save the file as UTF-8"),
        ("c", "empty_text", "c.txt: the text is empty; fill the file or remove it"),
    ]
    assert [row.id for row in text_files(CONFIG.model_copy(update={"suffix": ".md"}), tmp_path)] == ["notes"]


def test_what_has_no_files_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no \.txt file in it"):
        list(text_files(CONFIG, tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        list(text_files(CONFIG, tmp_path / "absent"))
