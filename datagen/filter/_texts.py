"""What the filters share: which text of a row they look at, and how a row is dropped."""

from collections.abc import Iterable
from typing import Literal

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Document, Example, Message, Prompt, Rejection, Trace
from datagen.filter import Row

STAGE = "filter"
Field = Literal["all", "prompt", "answer"]


class TextParams(Params):
    """Which text of a row counts.

    `prompt` is what the user says, `answer` a trace's reasoning and completion, `all` both and the turns between. A
    system message never counts, since many rows share it. A document is one text, whatever `field` says. Of an example
    `prompt` is its text, and `all` its context too.
    """

    field: Field = "all"


def text_of(row: Row, field: Field) -> str:
    """The text of a row that counts.

    Raises:
        ParamsError: the answer is asked for, and the rows are Prompts or Examples.
    """
    if isinstance(row, Document):
        return row.text
    if field == "answer" and not isinstance(row, Trace):
        kind = type(row).__name__.lower()
        raise ParamsError(f"field: the rows are {kind}s and have no answer; set field=prompt (got answer)")
    if isinstance(row, Example):
        return f"{row.context}\n{row.text}" if row.context and field == "all" else row.text
    if isinstance(row, Prompt):
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


def dropped(row: Row, reason: str, detail: str) -> Rejection:
    """The rejection of `row`."""
    return Rejection(id=row.id, stage=STAGE, reason=reason, detail=detail)
