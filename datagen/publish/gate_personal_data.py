"""Gate `personal_data`: no keys, passwords, e-mail addresses, phone, card or account numbers, nor public IP addresses.

Every text of every table is looked at, rejections and verdicts too, since all of them are published; and the
manifest, which holds params. What is found is told by its place, never by what it is.

Source: datagen/publish/secret_patterns.py.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from datagen.publish.outcome import Outcome, Splits, passed, refused
from datagen.publish.secret_patterns import LIKELY, find_kinds

_NAMES = frozenset(("id", "prompt_id", "parent_id", "request_key", "item_id", "code"))  # hashes and places, no texts
_BATCH = 8192


def check_personal_data(splits: Splits) -> Outcome:
    """Nothing is found in any table, whatever its share: one key is enough."""
    found, first = Counter[str](), ""
    for path in splits.values():
        for place, text in _texts(path):
            for kind in find_kinds(text):
                found[kind] += 1
                first = first or f"{place} ({kind})"
    if found:
        kinds = ", ".join(f"{kind} {n}" for kind, n in found.most_common())
        return refused(
            f"{', '.join(map(str, splits.values()))}: holds {kinds}; the first is in {first}: mask what is personal by "
            "`datastill filter --set method=personal_data`, take keys out of the source and have them withdrawn"
        )
    return passed("no keys, e-mail addresses, phone, card or account numbers in any table")


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Where a text is that may hold something, and the text; a batch of rows in memory."""
    manifest = path / "manifest.json"
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        yield f"{manifest.name}:{number}", line
    for file in sorted(path.glob("*.parquet")):
        rows = pl.scan_parquet(file)
        schema = rows.collect_schema()
        columns = [name for name, dtype in schema.items() if name not in _NAMES and _holds_texts(dtype)]
        if not columns:
            continue
        id = pl.col("id") if "id" in schema and "id" not in columns else pl.lit("")
        start = 0
        for batch in rows.select(id.alias("id").cast(pl.String), *columns).collect_batches(
            chunk_size=_BATCH, maintain_order=True
        ):
            numbered = batch.with_row_index("row", offset=start)
            start += batch.height
            for name in columns:
                for row, id_, text in _likely(numbered.select("row", "id", text=pl.col(name))).iter_rows():
                    yield f"{file.name}, row {row}{f' ({id_!r})' if id_ else ''}, {name}", text


def _holds_texts(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _holds_texts(dtype.inner)  # type: ignore[arg-type]  polars calls it a class or an instance
    if isinstance(dtype, pl.Struct):
        return any(_holds_texts(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]  likewise
    return dtype == pl.String


def _likely(texts: pl.DataFrame) -> pl.DataFrame:
    """Rows of (row, id, text) with a text in them that may hold something; lists and structs are taken apart."""
    dtype = texts.schema["text"]
    if isinstance(dtype, pl.List | pl.Array):
        return _likely(texts.explode("text"))
    if isinstance(dtype, pl.Struct):
        parts = [
            _likely(texts.select("row", "id", text=pl.col("text").struct.field(field.name)))
            for field in dtype.fields
            if _holds_texts(field.dtype)  # type: ignore[arg-type]  as above
        ]
        return pl.concat(parts)
    return texts.filter(pl.col("text").str.contains(LIKELY))
