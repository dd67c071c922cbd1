"""A sheet on which people label texts without seeing the labels they have: one page, or one table.

The page is complete in itself: it loads nothing, its Content-Security-Policy lets its own script run and no other,
and it is written for the keyboard. Answers stay in the browser until they are saved as a CSV file, which has the
table's form. The table is for spreadsheets, so a text that one of them would take for a formula is preceded by an
apostrophe, as OWASP advises (CSV Injection).

A row bears a code in place of its id, since an id may name the label that the text was written for.
"""

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from datagen.contracts.errors import DataError
from datagen.contracts.records import Example
from datagen.report.markup import text

CODE_CHARS = 12
BYTE_ORDER_MARK = "\ufeff"  # by which Excel knows UTF-8
SEPARATOR = ";"  # between labels in a cell
NONE = "(none)"  # the cell of a row in which no label holds; an empty one has not been judged
COLUMNS = ("row", "labels", "character", "context", "text")
_FORMULA = re.compile(r"['\s]*[=+\-@]|'*[\t\r\n]")  # behind apostrophes too, so that `without_mark` is sure
KEYS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Choice:
    """A label that may be given, and what it means."""

    name: str
    definition: str = ""


def row_code(row: Example) -> str:
    """What the row is called on a sheet; it changes with whatever a reader sees of it."""
    content = json.dumps([row.id, row.text, row.context, row.character], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:CODE_CHARS]


def check_choices(choices: Iterable[Choice]) -> None:
    """Refuse labels that a cell of a table cannot hold.

    Raises:
        DataError: a label has the separator in it, or is what stands for none.
    """
    for choice in choices:
        if SEPARATOR in choice.name or choice.name.casefold() == NONE:
            raise DataError(
                f"label {choice.name!r}: a review sheet writes {SEPARATOR!r} between labels and {NONE!r} for none; "
                "name it otherwise"
            )


def write_table(rows: Iterable[Example]) -> str:
    """The sheet as CSV, column `labels` empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row_code(row), "", *map(cell, (row.character, row.context, row.text))])
    return file.getvalue()


def cell(value: str | None) -> str:
    """A text as no spreadsheet takes it for a formula, white space before it or not."""
    value = value or ""
    return f"'{value}" if _FORMULA.match(value) else value


def without_mark(value: str) -> str:
    """What `cell` was given."""
    return value[1:] if value.startswith("'") and cell(value[1:]) == value else value


def write_page(rows: Sequence[Example], choices: Sequence[Choice]) -> str:
    """The sheet as a page."""
    folder = resources.files("datagen.agreement")
    script = (folder / "sheet.js").read_text(encoding="utf-8")
    style = (folder / "sheet.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    sheet = hashlib.sha256("".join(map(row_code, rows)).encode()).hexdigest()[:CODE_CHARS]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>datastill: which labels hold?</title>
<style>
{style}</style>
</head>
<body data-sheet="{sheet}">
<header>
<p class="brand">datastill</p>
<h1>Which labels hold?</h1>
<p>Read the text and choose every label that holds, by its key or by the mouse. <kbd>Enter</kbd> goes on; on a text
without a chosen label it says that none holds. <kbd>←</kbd> and <kbd>→</kbd> move without an answer. Then save the
answers as a file.</p>
<p><label>Your name <input id="reviewer" autocomplete="off" spellcheck="false"></label>
<button id="save" type="button">Save answers</button> <kbd>Ctrl</kbd>+<kbd>S</kbd></p>
<p id="progress" role="status"></p>
<p id="notice" role="alert"></p>
</header>
<main>
{"".join(map(_article, rows))}<fieldset id="choices">
<legend>Labels</legend>
{"".join(_choice(i, choice) for i, choice in enumerate(choices))}</fieldset>
<p><button id="previous" type="button">Previous</button> <button id="next" type="button">Next</button></p>
</main>
<script>{script}</script>
</body>
</html>
"""


def _article(row: Example) -> str:
    context = f'<p class="context">{text(row.context)}</p>\n' if row.context else ""
    character = f'<p class="character">{text(row.character)}</p>\n' if row.character else ""
    return (
        f'<article data-row="{row_code(row)}" hidden>\n{context}{character}<blockquote>{text(row.text)}</blockquote>\n'
        "</article>\n"
    )


def _choice(i: int, choice: Choice) -> str:
    key = f' data-key="{KEYS[i]}"' if i < len(KEYS) else ""
    shown = f"<kbd>{KEYS[i]}</kbd> " if i < len(KEYS) else ""
    definition = f"<small>{text(choice.definition)}</small>" if choice.definition else ""
    return (
        f'<label>{shown}<input type="checkbox" value="{escape(choice.name)}"{key}> <b>{text(choice.name)}</b> '
        f"{definition}</label>\n"
    )
