"""Oracles: the column's text, written by hand for rows in every format."""

import json
from typing import Any

import pytest

from datagen.contracts.code_tests import Case, CodeTests, to_text
from datagen.contracts.inputs import BadRow, to_record
from datagen.contracts.records import Prompt, prompt_from_row


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, None),
        ({"tests": None, "cases": None}, None),
        ({"tests": [], "cases": [], "test_setup_code": "import math"}, None),
        ({"tests": " \n"}, None),
        ({"tests": ["assert f(1)"]}, '{"asserts": ["assert f(1)"]}'),
        ({"tests": "assert f('ä')"}, '{"asserts": "assert f(\'ä\')"}'),
        ({"test_list": ["assert f(1)"], "test_setup_code": ""}, '{"asserts": ["assert f(1)"]}'),
        ({"test_list": ["a"], "test_setup_code": "x = 1"}, '{"asserts": ["a"], "setup": "x = 1"}'),
        ({"cases": [{"stdout": "1", "n": 2}]}, '{"cases": [{"stdin": "", "stdout": "1"}]}'),
        ({"tests": '{"asserts": ["assert f(1)"]}'}, '{"asserts": ["assert f(1)"]}'),
        ({"tests": '{"one": 1}'}, '{"asserts": "{\\"one\\": 1}"}'),
    ],
)
def test_rows_as_people_have_them(row: dict[str, Any], expected: str | None):
    """Both as the column's text, and as the column of a prompt, which leaves nothing of it in `info`."""
    assert to_text(row) == expected
    prompt = to_record(row | {"prompt": "p", "more": 1}, Prompt, source="here")
    assert (prompt.tests, prompt.info) == (expected, '{"more": 1}')


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"tests": 3}, "`tests` must be a list or a text (got int)"),
        ({"tests": [1]}, "each of `tests` is a text, an assert statement (got int)"),
        ({"test_list": {"a": 1}}, "`test_list` must be a list or a text (got dict)"),
        ({"cases": "a"}, "`cases` must be a list (got str)"),
        ({"cases": [{"stdin": "a"}]}, "each of `cases` is an object with the texts `stdin` and `stdout`"),
        ({"tests": ["a"], "test_setup_code": 1}, "`test_setup_code` is a text (got int)"),
    ],
)
def test_what_cannot_be_read_says_why(row: dict[str, Any], words: str):
    with pytest.raises(BadRow) as caught:
        to_record(row | {"prompt": "p"}, Prompt, source="here")
    assert (caught.value.reason, str(caught.value)) == ("wrong_type", words)


def test_the_column_is_read_as_it_was_written():
    row = {"tests": ["assert f(1)"], "cases": [{"stdin": "a", "stdout": "b"}], "test_setup_code": "x = 1"}
    text = to_text(row)
    assert text and to_text({"tests": text}) == text
    expected = CodeTests(asserts=["assert f(1)"], cases=[Case(stdin="a", stdout="b")], setup="x = 1")
    assert CodeTests.parse(text) == expected
    for wrong in ("[]", "{}", "assert f(1)", json.dumps({"asserts": 1}), json.dumps({"other": 1})):
        with pytest.raises(ValueError, match=r"tests|asserts"):
            CodeTests.parse(wrong)


def test_a_dataset_without_the_column_is_still_read():
    """A row as it was written before there were tests."""
    row = {"messages": [{"role": "user", "content": "p"}], "family": "f", "reference": None, "constraints": [],
           "tools": None, "source": "s", "info": None}  # fmt: skip
    assert prompt_from_row(row, id="a") == Prompt(
        id="a", messages=[{"role": "user", "content": "p"}], family="f", source="s"
    )
