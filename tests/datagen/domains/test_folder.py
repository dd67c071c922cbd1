"""Oracle: files and folders written by hand."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.errors import DataError
from datagen.contracts.records import Document, Rejection
from datagen.domains.folder import Config, folder


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(raw: Path) -> list[Document | Rejection]:
    return list(folder(Config(), raw))


def test_files_and_folders_are_domains(tmp_path: Path):
    (tmp_path / "README.md").write_text("Not a text.")
    (tmp_path / "LICENSE").write_text("Of the whole.")
    (tmp_path / "prose.txt").write_text("A fox\r\nran.")
    with gzip.open(tmp_path / "code.jsonl.gz", "wt") as file:
        file.write(lines({"id": 7, "text": "x = 1", "source": "a.py", "licence": "PSF-2.0"}))
    law = tmp_path / "law"
    (law / "old").mkdir(parents=True)
    (law / "LICENCE.txt").write_text("\n  Public domain \nmore\n")
    (law / "old" / "act.txt").write_text("Be it enacted.")
    (law / "cases.jsonl").write_text(lines({"id": "a", "text": "Held."}, {"id": "b", "text": "So.", "license": "MIT"}))
    assert read(tmp_path) == [
        Document(id="7", text="x = 1", source="a.py", domain="code", licence="PSF-2.0"),
        Document(id="cases.jsonl/a", text="Held.", source="cases.jsonl:1", domain="law", licence="Public domain"),
        Document(id="cases.jsonl/b", text="So.", source="cases.jsonl:2", domain="law", licence="MIT"),
        Document(id="old/act.txt", text="Be it enacted.", source="act.txt", domain="law", licence="Public domain"),
        Document(id="prose.txt", text="A fox\nran.", source="prose.txt", domain="prose"),
    ]


def test_a_text_that_is_none_is_a_rejection(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "empty.txt").write_text(" \n")
    (tmp_path / "a" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "a" / "text.txt").write_text("A fox ran.")
    assert [(row.id, row.reason) for row in read(tmp_path) if isinstance(row, Rejection)] == [
        ("empty.txt", "empty_text"), ("latin.txt", "not_utf8"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no domain in it"),
        ({"law/": ""}, "law: the domain is empty; put .txt"),
        ({"law/LICENSE": "MIT"}, "law: the domain is empty"),
        ({"law.txt": "a", "poems/a.txt": " ", "poems/b.txt": ""}, "poems: the domain is empty, none of its files has"),
        ({"law.jsonl": ""}, "law.jsonl: no rows"),
        ({"law.txt": "a", "law/a.txt": "b"}, "'law' is the domain 'law' too"),
        ({"law.jsonl": '{"text": "a"}\n', "law.jsonl.gz": ""}, "is the domain 'law' too"),
        ({"law.csv": "a,b"}, "law.csv: not one of .txt"),
        ({"law/a.pdf": "%PDF"}, "a.pdf: not one of .txt"),
        ({"law.txt.gz": "no gzip"}, "law.txt.gz: cannot be read"),
        ({"law.jsonl.gz": "no gzip"}, "law.jsonl.gz: not readable as gzip"),
    ],
)
def test_folders_that_are_refused(files: dict[str, str], message: str, tmp_path: Path):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_no_folder_is_refused(tmp_path: Path):
    for raw in (None, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="no such folder; method folder reads"):
            list(folder(Config(), raw))


def test_a_gzip_file_that_was_cut_is_named(tmp_path: Path):
    whole = gzip.compress(lines(*({"text": f"Text number {i}."} for i in range(1000))).encode())
    (tmp_path / "law.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"law\.jsonl\.gz: not readable as gzip"):
        read(tmp_path)
