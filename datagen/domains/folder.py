"""A folder with a file or a sub-folder for each domain, which is named like it.

Source: none; this is the form in which one has texts of several origins. `law.jsonl`, `law.jsonl.gz` and `law.parquet`
hold rows with a `text`, and perhaps `id`, `source` and `licence`; `law.txt` and `law.txt.gz` are one text. In a folder
`law/` each text file is a text and each file of rows gives its rows, in all folders in it, by name. A file LICENCE or
LICENSE, with or without a suffix, is the licence of the texts that name none: that whose text it has, or its
first line.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from datagen.contracts.errors import DataError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licence_names import UNKNOWN, recognise
from datagen.contracts.records import Document, Rejection

TEXTS, ROWS = (".txt", ".txt.gz"), (".jsonl", ".jsonl.gz", ".parquet")
_LICENCE = re.compile(r"licen[cs]e(\.\w+)?", re.IGNORECASE)
_ASIDE = re.compile(r"(\..*|readme(\.\w+)?|licen[cs]e(\.\w+)?)", re.IGNORECASE)  # what stands beside texts, and is none


class Config(InputParams):
    """Bounds on what each file may hold."""

    method: Literal["folder"] = "folder"


def folder(config: Config, raw: Path | None) -> Iterator[Document | Rejection]:
    """The texts of each domain, by name; `not_utf8` and `empty_text` are rejections.

    Raises:
        DataError: `raw` is no folder or has no domain, a domain has no file, two have one name, or a file is of another
            kind or cannot be read.
    """
    if raw is None or not raw.is_dir():
        raise DataError(f"{raw}: no such folder; method folder reads a folder with a file or sub-folder a domain")
    domains: dict[str, Path] = {}
    for path in sorted(raw.iterdir()):
        if _ASIDE.fullmatch(path.name):
            continue
        name = path.name if path.is_dir() else _stem(path)
        if name in domains:
            raise DataError(f"{path}: {domains[name].name!r} is the domain {name!r} too; rename one, or join them")
        domains[name] = path
    if not domains:
        raise DataError(f"{raw}: no domain in it; put a {', '.join(TEXTS + ROWS)} file or a folder of them there")
    for name, path in domains.items():
        files = _files(path) if path.is_dir() else [path]
        licence = _licence(path) if path.is_dir() else ""
        n_texts = 0
        for file in files:
            place = file.relative_to(path).as_posix() if path.is_dir() else ""
            for row in _texts(config, file, place):
                if isinstance(row, Document):
                    row = replace(row, domain=name, licence=row.licence or licence)
                    n_texts += 1
                yield row
        if not n_texts:
            raise DataError(f"{path}: the domain is empty, none of its files has a text; fill one, or remove it")


def _stem(file: Path) -> str:
    for suffix in TEXTS + ROWS:
        if file.name.endswith(suffix) and file.name != suffix:
            return file.name.removesuffix(suffix)
    raise DataError(
        f"{file}: not one of {', '.join(TEXTS + ROWS)}; take it out of the folder, or write it as one of them"
    )


def _files(domain: Path) -> list[Path]:
    files = sorted(file for file in domain.rglob("*") if file.is_file() and not _ASIDE.fullmatch(file.name))
    if not files:
        raise DataError(f"{domain}: the domain is empty; put {', '.join(TEXTS + ROWS)} files there, or remove it")
    for file in files:
        _stem(file)
    return files


def _texts(config: Config, file: Path, place: str) -> Iterator[Document | Rejection]:
    """`place` is where the file is in its domain, empty where it is the domain; it comes before the ids of its rows."""
    if file.name.endswith(TEXTS):
        yield _text(file, place or file.name)
        return
    for row in Rows(file, Document, "domains", config):
        yield replace(row, id=f"{place}/{row.id}") if place else row


def _text(file: Path, id: str) -> Document | Rejection:
    try:
        text = _read(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        detail = f"{file.name}: byte {error.start} is not UTF-8; save the file as UTF-8"
        return Rejection(id=id, stage="domains", reason="not_utf8", detail=detail)
    if not text.strip():
        detail = f"{file.name}: the text is empty; fill the file or remove it"
        return Rejection(id=id, stage="domains", reason="empty_text", detail=detail)
    return Document(id=id, text=text.replace("\r\n", "\n"), source=file.name)


def _licence(domain: Path) -> str:
    """The licence whose text the domain's licence file has, else its first line; empty where there is no file."""
    for file in sorted(domain.iterdir()):
        if file.is_file() and _LICENCE.fullmatch(file.name):
            said = _read(file).decode("utf-8", "replace")
            lines = (line.strip() for line in said.splitlines())
            known = recognise(said)
            return known if known != UNKNOWN else next((line for line in lines if line), "")
    return ""


def _read(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error}); mend it, or take it out of the folder") from None
