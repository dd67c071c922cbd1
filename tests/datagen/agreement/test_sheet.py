"""The sheet that people fill; oracles: Python's own readers of HTML and CSV, the rows that went in, hostile texts."""

import base64
import csv
import hashlib
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.agreement.sheet import (
    Choice,
    cell,
    check_choices,
    row_code,
    without_mark,
    write_page,
    write_table,
)
from datagen.contracts.errors import DataError
from datagen.contracts.records import Example

ATTACK = '</article></script><script>alert(1)</script><img src=x onerror=alert(2)>"&\u202e'
CHOICES = [Choice("joy", "being glad"), Choice(f"fear {ATTACK}", ATTACK)]
ROWS = [
    Example(id="plot/joy/0", text="At last!", context="It rains.", labels=[{"name": "joy", "weight": 1.0}]),
    Example(id="plot/fear/1", text=ATTACK, context=ATTACK, character=ATTACK),
]


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text in each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data


def test_a_hostile_text_stays_text():
    """No element but those of the page itself, and the text whole, its invisible sign made visible."""
    page = Elements(write_page(ROWS, CHOICES))
    tags = [tag for tag, _ in page.tags]
    assert (tags.count("script"), tags.count("article"), tags.count("img")) == (1, 2, 0)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert ATTACK.replace("\u202e", "\\u202e") in page.texts["blockquote"]
    values = [attributes["value"] for _, attributes in page.tags if "value" in attributes]
    assert values == [choice.name for choice in CHOICES]


def test_the_policy_lets_the_page_s_script_run_and_no_other():
    """Its hash, taken here of what stands between the tags."""
    page = write_page(ROWS, CHOICES)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in page
    assert "http" not in script and "src=" not in script


def test_nobody_sees_the_labels_that_a_row_has():
    """Neither in its id, nor in what it holds: the page is the same for other labels."""
    other = [Example(id=row.id, text=row.text, context=row.context, character=row.character) for row in ROWS]
    assert write_page(other, CHOICES) == write_page(ROWS, CHOICES)
    assert write_table(other) == write_table(ROWS)
    assert "plot" not in write_page(ROWS, CHOICES) + write_table(ROWS)


def test_a_code_follows_what_a_reader_sees():
    changes: list[dict[str, Any]] = [{"id": "b"}, {"text": "b"}, {"context": "b"}, {"character": "b"}]
    rows: list[Any] = [{"id": "a", "text": "a"}, *({"id": "a", "text": "a"} | one for one in changes)]
    assert len({row_code(Example(**row)) for row in rows}) == 5


def test_more_labels_than_keys_are_chosen_by_mouse():
    page = Elements(write_page(ROWS, [Choice(f"label {i}") for i in range(40)]))
    keys = [attributes.get("data-key") for _, attributes in page.tags if attributes.get("type") == "checkbox"]
    assert len(keys) == 40 and len(set(keys[:36])) == 36 and keys[36:] == [None] * 4


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1", "=HYPERLINK(\"http://x\")"]  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_is_a_formula(formula: str):
    """As a spreadsheet looks at it: by the first character, white space before it or not."""
    rows = [Example(id="a", text=formula, context=formula, character=formula)]
    header, filled = csv.reader(io.StringIO(write_table(rows), newline=""))
    assert header == ["row", "labels", "character", "context", "text"]
    assert filled == [row_code(rows[0]), "", f"'{formula}", f"'{formula}", f"'{formula}"]
    assert without_mark(cell(formula)) == formula


@given(st.text(), st.text(min_size=1))
def test_the_table_gives_every_text_back(context: str, text: str):
    """By Python's reader; NUL, which no text of a dataset has, aside."""
    context, text = context.replace("\0", ""), text.replace("\0", "")
    row = Example(id="a", text=text, context=context)
    _, filled = csv.reader(io.StringIO(write_table([row]), newline=""))
    assert [without_mark(one) for one in filled[3:]] == [context, text]
    assert not filled[3].lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("name", ["joy; fear", "(none)"])
def test_a_label_that_no_cell_can_hold_is_refused(name: str):
    with pytest.raises(DataError, match="name it otherwise"):
        check_choices([Choice(name)])
    check_choices(CHOICES[:1])
