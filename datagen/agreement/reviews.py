"""What people answered on review sheets: a folder of CSV files, one a person, named after them.

A file has the columns `row` and `labels`, whatever else stands there; commas, semicolons or tabs part its cells, as the
country of the spreadsheet has it. In `labels` semicolons part names, `(none)` says that no label holds, and an empty
cell that the row was not judged.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from datagen.agreement.labels import LabelSet
from datagen.agreement.sheet import NONE, SEPARATOR, without_mark
from datagen.contracts.errors import DataError

_DELIMITERS = (",", ";", "\t")


def read_reviews(
    folder: Path, rows: Mapping[str, str], find_label: Callable[[str], str | None], known: str
) -> dict[str, dict[str, LabelSet]]:
    """Person to row id to the labels that they gave it.

    Args:
        folder: of the files.
        rows: code of a row to its id, for all that a sheet may hold.
        find_label: the label that a name stands for, None where it is none.
        known: the labels in words, for the error.

    Raises:
        DataError: no file, or the first thing in a file that cannot be read, with its place and its value.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; put the filled sheets into one, a CSV file for each person")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".csv")
    if not files:
        raise DataError(f"{folder}: no .csv file in it; put the filled sheets there, one for each person")
    reviews: dict[str, dict[str, LabelSet]] = {}
    for file in files:
        given: dict[str, LabelSet] = {}
        for line, code, cell in _cells(file):
            if (id := rows.get(code)) is None:
                raise DataError(
                    f"{file}:{line}: no row {code!r} among these examples; give the examples and the parameters that "
                    "the sheet was made from"
                )
            if id in given:
                raise DataError(f"{file}:{line}: the row {code!r} stands there twice; keep one of its answers")
            if cell:
                given[id] = _labels(cell, find_label, f"{file}:{line}", known)
        if not given:
            raise DataError(f"{file}: no answer in it; fill the column labels, or take the file away")
        reviews[file.stem] = given
    return reviews


def _labels(cell: str, find_label: Callable[[str], str | None], place: str, known: str) -> LabelSet:
    if cell.casefold() == NONE:
        return frozenset()
    names = [name for part in cell.split(SEPARATOR) if (name := part.strip())]
    found = [find_label(name) for name in names]
    if None in found or not names:
        wrong = names[found.index(None)] if names else cell
        raise DataError(f"{place}: {wrong!r} is no label; there are {known}, and {NONE} where none holds")
    return frozenset(label for label in found if label is not None)


def _cells(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, `row`, `labels`) of each row; lines of empty cells are none."""
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save it as 'CSV UTF-8'") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; mend it, or take it out of the folder") from None
    head = content.partition("\n")[0].strip()
    delimiter = next((one for one in _DELIMITERS if {"row", "labels"} <= set(_header(head, one))), None)
    if delimiter is None:
        raise DataError(f"{file}:1: no columns row and labels (got {head[:80]!r}); keep the sheet's first line")
    columns = _header(head, delimiter)
    place, labels = columns.index("row"), columns.index("labels")
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        next(reader)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) <= max(place, labels):
                raise DataError(
                    f"{file}:{reader.line_num}: {len(cells)} cells, the first line has {len(columns)}; mend the line"
                )
            yield reader.line_num, cells[place].strip(), without_mark(cells[labels]).strip()
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: not readable as CSV ({error}); save it again as CSV") from None


def _header(line: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in line.split(delimiter)]
