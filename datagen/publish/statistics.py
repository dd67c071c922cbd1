"""What stands in the columns of Parquet files, counted a piece at a time, and which languages their texts are in."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

MAX_VALUES = 12  # different values that are counted one by one
MAX_EXACT = 100_000  # rows whose different values are told apart exactly
N_LANGUAGE_ROWS = 500
MIN_LETTERS = 30  # of a text whose language is told: shorter ones are too often taken for another
_MAX_CHARS = 1000  # of a text that are read for it
_SEEN = 0.05  # share of the texts from which a language counts
_TEXTS = ("text", "completion", "reasoning", "reference")


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one column holds.

    Attributes:
        name: of the column.
        dtype: as polars writes it, shortened.
        n_missing: rows without a value.
        size: what `low`, `mean` and `high` are of: value, characters, elements or bytes; empty where there are none.
        low, mean, high: over the rows that have a value; None where none has.
        n_distinct: different values of a plain column.
        is_exact: whether it is counted; above 100,000 rows it is estimated (HyperLogLog), some percent off.
        values: value to rows, the most frequent first, where there are at most `MAX_VALUES`, and two rows to a value.
    """

    name: str
    dtype: str
    n_missing: int
    size: str
    low: float | None
    mean: float | None
    high: float | None
    n_distinct: int | None
    is_exact: bool
    values: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Languages:
    """Languages of texts.

    Attributes:
        shares: ISO 639-1 code to its share of the texts looked at, the largest first; those above 5 %.
        n_texts: that were looked at.
        n_rows: of the files.
    """

    shares: Mapping[str, float]
    n_texts: int
    n_rows: int


def count_columns(files: Sequence[Path]) -> list[Column]:
    """Every column of the rows in `files`, which have one schema; memory does not grow with the rows."""
    frame = pl.scan_parquet(list(files))
    schema = frame.collect_schema()
    n_rows: int = frame.select(pl.len()).collect(engine="streaming").item()
    figures: list[pl.Expr] = []
    for name, dtype in schema.items():
        column, size = pl.col(name), _measure(name, dtype)[1]
        figures.append(column.null_count().alias(f"{name} missing"))
        if size is not None:
            size = size.cast(pl.Float64)
            figures += [
                size.min().alias(f"{name} low"),
                size.mean().alias(f"{name} mean"),
                size.max().alias(f"{name} high"),
            ]
        if not dtype.is_nested() and dtype != pl.Binary:
            present = column.drop_nulls()
            distinct = present.n_unique() if n_rows <= MAX_EXACT else present.approx_n_unique()
            figures.append(distinct.alias(f"{name} distinct"))
    counted = frame.select(figures).collect(engine="streaming").row(0, named=True) if figures else {}
    return [
        Column(
            name=name,
            dtype=_short(dtype),
            n_missing=counted[f"{name} missing"],
            size=_measure(name, dtype)[0],
            low=counted.get(f"{name} low"),
            mean=counted.get(f"{name} mean"),
            high=counted.get(f"{name} high"),
            is_exact=n_rows <= MAX_EXACT,
            n_distinct=(n := counted.get(f"{name} distinct")),
            values=_count_values(frame, name, dtype) if n is not None and n <= min(MAX_VALUES, n_rows // 2) else {},
        )
        for name, dtype in schema.items()
    ]


def tell_languages(files: Sequence[Path]) -> Languages:
    """Languages of the longest text of each of about 500 rows, evenly spread over `files`.

    A row whose texts all have fewer than 30 letters is not looked at, and nor are addresses, markup and code between
    backticks.
    """
    from datagen.backends.languages import ranked_languages

    frame = pl.scan_parquet(list(files))
    schema = frame.collect_schema()
    names = [name for name in _TEXTS if schema.get(name) == pl.String]
    columns = [pl.col(name).str.slice(0, 4 * _MAX_CHARS) for name in names]
    if "messages" in schema and "completion" not in schema:
        columns.append(
            pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n").alias("asked")
        )
    n_rows: int = frame.select(pl.len()).collect(engine="streaming").item()
    if not columns or not n_rows:
        return Languages(shares={}, n_texts=0, n_rows=n_rows)
    stride = max(1, n_rows // N_LANGUAGE_ROWS)
    drawn = frame.with_row_index("row of all").filter(pl.col("row of all") % stride == 0).select(columns)
    found: Counter[str] = Counter()
    for row in drawn.collect(engine="streaming").iter_rows():
        text = max((_words(one) for one in row if one), key=len, default="")
        if sum(map(str.isalpha, text)) >= MIN_LETTERS:
            found[ranked_languages(text[:_MAX_CHARS].lower())[0][0]] += 1
    n_texts = found.total()
    shares = {name: n / n_texts for name, n in found.most_common() if n / n_texts >= _SEEN}
    return Languages(shares=shares, n_texts=n_texts, n_rows=n_rows)


def _words(text: str) -> str:
    return " ".join(re.sub(r"```.*?(```|$)|`[^`]*`|https?://\S+|<[^>]{1,80}>", " ", text, flags=re.DOTALL).split())


def _measure(name: str, dtype: pl.DataType) -> tuple[str, pl.Expr | None]:
    """What is measured of a value, and how."""
    column = pl.col(name)
    if dtype.is_numeric():
        return "value", column
    if dtype == pl.Boolean:
        return "value", column.cast(pl.UInt8)
    if dtype == pl.String:
        return "characters", column.str.len_chars()
    if dtype == pl.Binary:
        return "bytes", column.bin.size()
    if isinstance(dtype, pl.List):
        return "elements", column.list.len()
    if isinstance(dtype, pl.Struct) and any(one.name == "bytes" and one.dtype == pl.Binary for one in dtype.fields):
        return "bytes", column.struct.field("bytes").bin.size()
    return "", None


def _short(dtype: pl.DataType) -> str:
    """Such as `list of struct(role, content)`."""
    if isinstance(dtype, pl.List):
        return f"list of {_short(dtype.inner)}"  # pyright: ignore[reportArgumentType] - an instance, as schemas hold
    if isinstance(dtype, pl.Struct):
        names = [one.name for one in dtype.fields]
        return "image" if names == ["bytes", "path"] else f"struct({', '.join(names)})"
    return str(dtype).lower()


def _count_values(frame: pl.LazyFrame, name: str, dtype: pl.DataType) -> dict[str, int]:
    """Rows of each value, the most frequent first; long texts are no values that one counts."""
    column = pl.col(name)
    counted: Any = frame.filter(column.is_not_null()).group_by(column).len().collect(engine="streaming")
    rows = sorted(counted.iter_rows(), key=lambda row: (-row[1], str(row[0])))
    is_short = dtype != pl.String or all(len(value) <= 40 for value, _ in rows)
    return {str(value): n for value, n in rows} if is_short and len(rows) <= MAX_VALUES else {}
