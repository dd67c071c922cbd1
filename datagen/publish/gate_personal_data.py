"""Gate `personal_data`: no keys, passwords, e-mail addresses, phone, card or account numbers, nor public IP addresses.

Every text of every table is looked at, rejections and verdicts too, since all of them are published; and the files
beside them, such as the manifest, which holds params. The card repeats params, templates and commands of all steps
behind the rows: once it is written, it is looked at too. What is found is told by its place, never by what it is.

Source: datagen/publish/secret_patterns.py.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from datagen.publish.outcome import Outcome, Splits, passed, refused
from datagen.publish.secret_patterns import LIKELY, find_kinds

_IDS = frozenset(("id", "prompt_id", "parent_id", "request_key", "item_id"))  # places and hashes
_BESIDE = frozenset((".json", ".jsonl", ".md", ".html", ".csv", ".txt", ".jinja", ".yaml"))
_OF_TOKENS = frozenset(("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"))
_PAGES = ("README.md", "croissant.json", "pipeline.svg")
_BATCH = 8192


def check_personal_data(splits: Splits) -> Outcome:
    """Nothing is found in any table, whatever its share: one key is enough."""
    found, first = Counter[str](), ""
    for path in splits.values():
        for place, text, is_id in _texts(path):
            for kind in find_kinds(text, numbers=not is_id):
                found[kind] += 1
                first = first or f"{place} ({kind})"
    if found:
        kinds = ", ".join(f"{kind} {n}" for kind, n in found.most_common())
        return refused(
            f"{', '.join(map(str, splits.values()))}: holds {kinds}; the first is in {first}: mask what is personal by "
            "`datastill filter --set method=personal_data`, take keys out of the source and have them withdrawn"
        )
    return passed("no keys, e-mail addresses, phone, card or account numbers in any table")


def check_pages(folder: Path) -> Outcome:
    """Nothing is found on the pages of a folder for the Hub, which tell of all steps behind what is published."""
    found, first = Counter[str](), ""
    for name in _PAGES:
        if not (folder / name).is_file():
            continue
        text = (folder / name).read_text(encoding="utf-8")
        for kind in find_kinds(text):
            found[kind] += 1
            lines = (number for number, line in enumerate(text.splitlines(), start=1) if kind in find_kinds(line))
            first = first or f"{name}:{next(lines, 1)} ({kind})"
    if found:
        kinds = ", ".join(f"{kind} {n}" for kind, n in found.most_common())
        return refused(
            f"the card repeats the params, prompts and commands of every step, and they hold {kinds}; the first would "
            f"be in {first}: take it out of that stage's params or template, run it again, and have keys withdrawn"
        )
    return passed("no keys, e-mail addresses, phone, card or account numbers on any page")


def _texts(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Where a text is that may hold something, the text, and whether it is an id; a batch of rows in memory."""
    for file in sorted(path.rglob("*")):
        if file.suffix == ".parquet" and file.parent == path:
            yield from _cells(file)
        elif file.is_file() and file.suffix in _BESIDE and file.name not in _OF_TOKENS:
            with file.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines, start=1):
                    yield f"{file.relative_to(path).as_posix()}:{number}", line, False


def _cells(file: Path) -> Iterator[tuple[str, str, bool]]:
    rows = pl.scan_parquet(file)
    schema = rows.collect_schema()
    columns = [name for name, dtype in schema.items() if _holds_texts(dtype)]
    id = pl.col("id").cast(pl.String) if "id" in schema else pl.lit("")
    start = 0
    if not columns:
        return
    for batch in rows.select(cells=pl.struct(columns), named=id).collect_batches(
        chunk_size=_BATCH, maintain_order=True
    ):
        numbered = batch.with_row_index("row", offset=start)
        start += batch.height
        for name in columns:
            texts = numbered.select("row", "named", text=pl.col("cells").struct.field(name))
            for row, named, text in _likely(texts).iter_rows():
                yield f"{file.name}, row {row}{f' ({named!r})' if named else ''}, {name}", text, name in _IDS


def _holds_texts(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _holds_texts(dtype.inner)  # type: ignore[arg-type]  polars calls it a class or an instance
    if isinstance(dtype, pl.Struct):
        if any(field.dtype == pl.Binary for field in dtype.fields):  # an image: its path is empty, its bytes are large
            return False
        return any(_holds_texts(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]  likewise
    return dtype == pl.String


def _likely(texts: pl.DataFrame) -> pl.DataFrame:
    """Rows of (row, named, text) with a text in them that may hold something; lists and structs are taken apart."""
    dtype = texts.schema["text"]
    if isinstance(dtype, pl.List | pl.Array):
        return _likely(texts.explode("text"))
    if isinstance(dtype, pl.Struct):
        parts = [
            _likely(texts.select("row", "named", text=pl.col("text").struct.field(field.name)))
            for field in dtype.fields
            if _holds_texts(field.dtype)  # type: ignore[arg-type]  as above
        ]
        return pl.concat(parts)
    return texts.filter(pl.col("text").str.contains(LIKELY))
