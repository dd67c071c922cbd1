"""What the filters share: which text of a row they look at, its words, and how a row is dropped."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Document, Message, Rejection, Trace
from datagen.filter import Row

STAGE = "filter"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A run of letters and digits; of scripts that put no spaces between words (Chinese, Thai, ...), one character."""

_SPACED = bytes(code if chr(code).isalnum() or chr(code) == "_" else ord(" ") for code in range(128)) + bytes(128)

Field = Literal["all", "prompt", "answer"]


class TextParams(Params):
    """Which text of a row counts.

    `prompt` is what the user says, `answer` a trace's reasoning and completion, `all` both and the turns between. A
    system message never counts, since many rows share it. A document is one text, whatever `field` says.
    """

    field: Field = "all"


def text_of(row: Row, field: Field) -> str:
    """The text of a row that counts.

    Raises:
        ParamsError: the answer is asked for, and the rows are Prompts.
    """
    if isinstance(row, Document):
        return row.text
    if not isinstance(row, Trace):
        if field == "answer":
            raise ParamsError("field: the rows are prompts and have no answer; set field=prompt (got answer)")
        return "\n".join(_contents(row.messages, field))
    answer = [part for part in (row.reasoning, row.completion) if part]
    if field == "answer":
        return "\n".join(answer)
    asked = list(_contents(row.prompt.messages, field))
    return "\n".join(asked if field == "prompt" else asked + answer)


def answered(row: Row, method: str) -> Trace:
    """The row as the trace that it is.

    Raises:
        ParamsError: it is none.
    """
    if not isinstance(row, Trace):
        kind = type(row).__name__.lower()
        raise ParamsError(f"method {method} looks at answers, and the rows are {kind}s; give it traces")
    return row


def _contents(messages: Iterable[Message], field: Field) -> Iterable[str]:
    for message in messages:
        role = message.get("role")
        if (role == "user" or (field == "all" and role != "system")) and (content := message.get("content")):
            yield content


def normalise(text: str) -> str:
    """The text in Unicode's composed form, case-folded, each run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def find_words(normalised: str) -> list[str]:
    """Its words, without punctuation."""
    if normalised.isascii():  # the same, in half the time
        return normalised.encode().translate(_SPACED).decode().split()
    return _WORD.findall(normalised)


def spaced_words(normalised: str) -> bytes:
    """Its words in UTF-8 with spaces between, some of them more than one; empty where there is no word."""
    if normalised.isascii():
        return normalised.encode().translate(_SPACED).strip(b" ")
    return " ".join(_WORD.findall(normalised)).encode("utf-8", "surrogatepass")


def dropped(row: Row, reason: str, detail: str) -> Rejection:
    """The rejection of `row`."""
    return Rejection(id=row.id, stage=STAGE, reason=reason, detail=detail)
