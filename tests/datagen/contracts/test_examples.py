"""Oracles: rows of texts with labels, read by hand."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.inputs import BadRow, InputParams, Rows, open_rows, to_record
from datagen.contracts.records import Document, Example, Rejection, content_id

JOY: Any = [{"name": "joy", "weight": 1.0}]


def as_example(row: dict[str, Any]) -> Example:
    return to_record(row, Example, source="f:1")


def test_a_row_with_all_that_it_may_hold():
    row = {
        "id": 7, "text": "At last!", "context": "She waited.", "character": "Ann, a sailor", "labels": {"joy": 1},
        "reason": "it ends", "family": "contextual", "source": "plot-3", "teacher": "m", "info": {"b": 1}, "score": 2,
    }  # fmt: skip
    assert as_example(row) == Example(
        id="7",
        text="At last!",
        context="She waited.",
        character="Ann, a sailor",
        labels=JOY,
        reason="it ends",
        family="contextual",
        source="plot-3",
        teacher="m",
        info='{"info": {"b": 1}, "score": 2}',
    )


def test_a_text_with_labels_alone_gets_an_id_by_content():
    assert as_example({"text": "Hi", "labels": ["joy"]}) == Example(
        id=content_id([], "Hi", None, None), text="Hi", labels=JOY, source="f:1"
    )
    assert as_example({"text": "Hi", "context": " ", "labels": []}) == Example(
        id=content_id([], "Hi", None, None), text="Hi", labels=[], source="f:1"
    )


@pytest.mark.parametrize("spelling", ["licence", "license"])
def test_a_document_has_domain_and_licence(spelling: str, tmp_path: Path):
    """Both are columns of their own, which a written dataset gives back; one without the columns is read too."""
    row = {"id": "a", "text": "Be it enacted.", "domain": "law", spelling: "public domain", "year": 1881}
    expected = Document(
        id="a", text="Be it enacted.", source="f:1", domain="law", licence="public domain", info='{"year": 1881}'
    )
    assert to_record(row, Document, source="f:1") == expected
    with DatasetWriter(tmp_path / "out", Document, {}) as writer:
        writer.read()
        writer.write(expected)
    assert list(Rows(tmp_path / "out", Document, "mix", InputParams())) == [expected]
    old = pl.read_parquet(tmp_path / "out/part-00000.parquet").drop("domain", "licence")
    old.write_parquet(tmp_path / "out/part-00000.parquet")
    (plain,) = Rows(tmp_path / "out", Document, "mix", InputParams())
    assert isinstance(plain, Document) and (plain.domain, plain.licence) == ("", "")


def test_a_domain_that_is_no_text_is_refused():
    with pytest.raises(BadRow, match="`domain` must be a text"):
        to_record({"text": "a", "domain": ["law"]}, Document, source="f:1")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["sad", "joy"], {"sad": 1.0, "joy": 1.0}),
        ([3, " a b "], {"3": 1.0, "a b": 1.0}),
        ({"joy": 0.5, "sad": 0}, {"joy": 0.5, "sad": 0.0}),
        ({"joy": 0.5, "sad": None}, {"joy": 0.5}),
        ([{"name": "joy", "weight": 0.3}, "sad"], {"joy": 0.3, "sad": 1.0}),
        ([], {}),
        ({}, {}),
    ],
)
def test_labels_in_every_form(labels: object, expected: dict[str, float]):
    """In the order of the row."""
    found = as_example({"text": "Hi", "labels": labels}).labels
    assert [(label["name"], label["weight"]) for label in found] == list(expected.items())


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        ({"labels": ["joy"]}, "missing_field", "no `text`"),
        ({"text": " ", "labels": ["joy"]}, "empty_text", "fill it"),
        ({"text": "Hi"}, "missing_field", "no `labels`"),
        ({"text": "Hi", "labels": "joy"}, "wrong_type", "`labels` must be a list"),
        ({"text": "Hi", "labels": ["joy", "joy "]}, "duplicate_label", "'joy' stands twice"),
        ({"text": "Hi", "labels": ["joy", ""]}, "empty_label", "name is empty"),
        ({"text": "Hi", "labels": {" ": 1}}, "empty_label", "name is empty"),
        ({"text": "Hi", "labels": ["joy", None]}, "wrong_type", "got NoneType"),
        ({"text": "Hi", "labels": [True]}, "wrong_type", "got bool"),
        ({"text": "Hi", "labels": [0.5]}, "wrong_type", "got float"),
        ({"text": "Hi", "labels": [{"name": "joy"}]}, "wrong_type", "a `name` and a `weight`"),
        ({"text": "Hi", "labels": {"joy": 1.5}}, "bad_weight", "'joy' must be in [0, 1] (got 1.5)"),
        ({"text": "Hi", "labels": {"joy": -0.1}}, "bad_weight", "(got -0.1)"),
        ({"text": "Hi", "labels": {"joy": float("nan")}}, "bad_weight", "(got nan)"),
        ({"text": "Hi", "labels": {"joy": 10**400}}, "bad_weight", "must be in [0, 1]"),
        ({"text": "Hi", "labels": {"joy": "high"}}, "wrong_type", "must be a number (got str)"),
        ({"text": "Hi", "labels": {"joy": True}}, "wrong_type", "must be a number (got bool)"),
        ({"text": "Hi", "context": ["a"], "labels": []}, "wrong_type", "`context`"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], reason: str, says: str):
    with pytest.raises(BadRow) as error:
        as_example(row)
    assert error.value.reason == reason and says in str(error.value)


def test_jsonl_parquet_and_dataset_hold_the_same_rows(tmp_path: Path):
    """In Parquet a column of weights is a struct, null where a row has no such label."""
    rows = [
        {"id": "a", "text": "Hi", "context": None, "labels": {"joy": 0.5}},
        {"id": "b", "text": "Ho", "context": "c", "labels": {"sad": 1.0}},
        {"id": "c", "text": "Hm", "context": None, "labels": {}},
    ]
    lines, table = tmp_path / "rows.jsonl", tmp_path / "rows.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pl.DataFrame(rows).write_parquet(table)
    assert pl.read_parquet(table)["labels"][0] == {"joy": 0.5, "sad": None}
    read = list(Rows(lines, Example, "test", InputParams()))
    with DatasetWriter(tmp_path / "dataset", Example, {}) as writer:
        for row in read:
            writer.read()
            writer.put(row)
    expected = [
        ("a", None, [{"name": "joy", "weight": 0.5}]), ("b", "c", [{"name": "sad", "weight": 1.0}]), ("c", None, [])
    ]  # fmt: skip
    for path in (lines, table, tmp_path / "dataset"):
        found = [row for row in Rows(path, Example, "test", InputParams()) if isinstance(row, Example)]
        assert [(row.id, row.context, row.labels) for row in found] == expected


def test_a_text_with_labels_is_an_example_and_one_without_a_document(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    for row, kind in (({"text": "a", "labels": []}, Example), ({"text": "a", "labels": None}, Document)):
        file.write_text(json.dumps(row) + "\n" + json.dumps({"text": "b", "label": 1}) + "\n")
        rows = open_rows(file, "filter", InputParams(max_rejected_share=1))
        assert rows.record is kind
        assert isinstance(list(rows)[1], Rejection if kind is Example else Document)


@given(
    st.dictionaries(
        st.sampled_from(["id", "text", "context", "character", "labels", "reason", "family", "source", "info"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "weight", "joy"]), inner, max_size=3),
            max_leaves=6,
        ),
    )
)  # fmt: skip
def test_any_row_is_an_example_or_a_bad_row(row: dict[str, Any]):
    """Nothing else is raised, whatever JSON stands in the fields."""
    try:
        read = as_example(row)
    except BadRow as bad:
        assert bad.reason and str(bad)
    else:
        assert all(0 <= label["weight"] <= 1 and label["name"].strip() for label in read.labels)
