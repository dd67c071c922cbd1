"""A folder of plain text files, each a narrative of its own; its id is the file's place in the folder.

Source: none; this is the form in which Project Gutenberg and others give books, one file each.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import DataError
from datagen.contracts.params import Params
from datagen.contracts.records import Document, Rejection


class Config(Params):
    """Which files: those whose name ends on `suffix`, in the folder and all folders in it, by name."""

    method: Literal["text_files"]
    suffix: str = Field(default=".txt", min_length=1)


def text_files(config: Config, raw: Path) -> Iterator[Document | Rejection]:
    """The text of each file, or its rejection: `not_utf8`, `empty_text`.

    Raises:
        DataError: `raw` is no folder, has no such file, or one of them cannot be read.
    """
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder; method text_files reads a folder of {config.suffix} files")
    files = sorted(file for file in raw.rglob(f"*{config.suffix}") if file.is_file())
    if not files:
        raise DataError(f"{raw}: no {config.suffix} file in it; name another folder, or another suffix=")
    for file in files:
        yield _narrative(file, file.relative_to(raw).as_posix().removesuffix(config.suffix))


def _narrative(file: Path, id: str) -> Document | Rejection:
    def rejection(reason: str, detail: str) -> Rejection:
        return Rejection(id=id, stage="narratives", reason=reason, detail=f"{file.name}: {detail}")

    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return rejection("not_utf8", f"byte {error.start} is not UTF-8; save the file as UTF-8")
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; mend it, or take it out of the folder") from None
    if not text.strip():
        return rejection("empty_text", "the text is empty; fill the file or remove it")
    return Document(id=id, text=text.replace("\r\n", "\n"), source=file.name)
