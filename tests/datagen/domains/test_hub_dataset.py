"""hub_dataset against a folder of texts that `datasets` itself loads."""

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.records import Document, Rejection
from datagen.domains.hub_dataset import Config, hub_dataset

ROWS = [
    {"text": "Held.", "kind": "law", "license": "MIT"},
    {"text": " ", "kind": "law", "license": None},
    {"text": "x = 1", "kind": None, "license": None},
    {"text": "So.", "kind": "law", "license": None},
]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "texts"


def read(texts: Path, **source: Any) -> list[Document | Rejection]:
    config = Config.model_validate({"method": "hub_dataset", "sources": [{"dataset": str(texts), **source}]})
    return list(hub_dataset(config, None))


def test_a_column_says_the_domain(texts: Path):
    out = read(texts, domain_column="kind", licence="CC0")
    assert [(type(row), getattr(row, "domain", None) or getattr(row, "reason", None)) for row in out] == [
        (Document, "law"), (Rejection, "empty_text"), (Rejection, "no_domain"), (Document, "law"),
    ]  # fmt: skip
    first, last = out[0], out[3]
    assert isinstance(first, Document) and isinstance(last, Document)
    assert (first.text, first.licence, last.licence) == ("Held.", "MIT", "CC0")
    assert first.id == first.source == f"{texts}/default/train:0"


def test_one_domain_and_the_first_rows(texts: Path):
    """Without a name the domain is called like the dataset; a card that names no licence leaves it empty."""
    (only,) = read(texts, n_rows=1)
    assert isinstance(only, Document) and only.domain == "texts"
    *_, last = read(texts, domain="prose")
    assert isinstance(last, Document) and (last.domain, last.licence) == ("prose", "")


def test_what_is_not_there_is_named(texts: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="no column 'body'; it has text, kind, license"):
        read(texts, text_column="body")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match=r"dataset 'nobody/nothing' \(subset None, split train\)"):
        list(hub_dataset(Config.model_validate({"sources": [{"dataset": "nobody/nothing"}]}), None))
