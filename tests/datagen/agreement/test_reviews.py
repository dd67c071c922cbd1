"""Filled sheets; oracle: files written by hand as spreadsheets write them, and every way to fill one wrongly."""

from pathlib import Path

import pytest

from datagen.agreement.reviews import read_reviews
from datagen.contracts.errors import DataError

ROWS = {"c0de0": "plot/0", "c0de1": "plot/1", "c0de2": "plot/2"}
LABELS = {"joy": "joy", "fear": "fear", "-1": "-1"}


def read(folder: Path) -> dict[str, dict[str, frozenset[str]]]:
    return read_reviews(folder, ROWS, lambda name: LABELS.get(name.lower()), "joy, fear")


def written(folder: Path, content: str | bytes, name: str = "ada.csv") -> Path:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        "row,labels\r\nc0de0,joy; fear\r\nc0de1,(none)\r\nc0de2,\r\n",
        '\ufeff"row";"labels";"text"\r\nc0de0;"Joy;fear";"=1"\r\nc0de1;(None);\r\n;;\r\n',
        "text\tLabels\tROW\nAt\tjoy;fear;\tc0de0\nlast\t (none) \tc0de1\n\n",
        'row,text,labels\nc0de1,"a, b\nc0de9,joy",(none)\nc0de0,x,"fear;joy"\n',
    ],
    ids=["the page's own", "Excel's of a German", "tabs, other order", "a text of two lines"],
)
def test_what_spreadsheets_write_can_be_read(tmp_path: Path, content: str):
    """The same two answers each time; an empty cell is no answer."""
    assert read(written(tmp_path, content)) == {"ada": {"plot/0": frozenset({"joy", "fear"}), "plot/1": frozenset()}}


def test_each_file_is_a_person_by_name(tmp_path: Path):
    written(tmp_path, "row,labels\nc0de0,joy\n", "bob.CSV")
    written(tmp_path, "not a sheet", "notes.txt")
    assert list(read(written(tmp_path, "row,labels\nc0de0,joy\n"))) == ["ada", "bob"]


def test_a_label_that_was_guarded_against_spreadsheets_is_itself(tmp_path: Path):
    assert read(written(tmp_path, "row,labels\nc0de0,'-1\n")) == {"ada": {"plot/0": frozenset({"-1"})}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("row,labels\nc0de9,joy\n", "ada.csv:2: no row 'c0de9' among these examples"),
        ("row,labels\nc0de0,joy\nc0de0,\n", "ada.csv:3: the row 'c0de0' stands there twice"),
        ("row,labels\nc0de0,joy; hapiness\n", "ada.csv:2: 'hapiness' is no label; there are joy, fear, and (none)"),
        ("row,labels\nc0de0,joy fear\n", "ada.csv:2: 'joy fear' is no label"),
        ("row,labels\nc0de0,;\n", "ada.csv:2: ';' is no label"),
        ("row,labels\nc0de0,joy; (none)\n", "ada.csv:2: '(none)' is no label"),
        ("row,labels\nc0de0\n", "ada.csv:2: 1 cells, the first line has 2"),
        ("row,label\nc0de0,joy\n", "ada.csv:1: no columns row and labels (got 'row,label')"),
        ("", "ada.csv:1: no columns row and labels"),
        ("row,labels\nc0de0,\n", "ada.csv: no answer in it"),
        ('row,labels\nc0de0,"joy\n', "ada.csv:2: not readable as CSV (unexpected end of data)"),
        (b"row,labels\nc0de0,jo\xe9\n", "ada.csv: byte 19 is not UTF-8; save it as 'CSV UTF-8'"),
        ("row,labels,text\nc0de0,joy," + "x" * 200_000, "ada.csv:2: not readable as CSV (field larger"),
    ],
)
def test_a_sheet_filled_wrongly_is_told_by_place_and_value(tmp_path: Path, content: str | bytes, message: str):
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, content))
    assert message in str(caught.value)


def test_a_folder_without_sheets_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no \.csv file in it"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "absent")
