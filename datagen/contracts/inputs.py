"""Rows that stages take: a dataset directory, a .jsonl (or .jsonl.gz) or a .parquet file, in the formats people have.

A file is checked whole, to count its rows and to find those that cannot be used, before anything is spent; then it is
read again, row by row, unless it is small enough to be kept. A bad row becomes a rejection that names file, line and
remedy; more of them than the bound in params is an error.

Formats of a row, told apart by their keys:
    prompt or messages            a text, or chat messages; with reference (a list holds alternatives), family,
                                  constraints, tools, all optional
    prompt, answer, info          environments' rows: the answer is the reference
    conversations                 ShareGPT: turns of {from, value}
    prompt, instruction_id_list,  IFEval (arXiv:2311.07911)
      kwargs
    text                          a Document, for the stages that take one; with domain and licence, both optional
    text, labels                  an Example (datagen/contracts/examples.py), for students that classify
Any of them may have tests of code (datagen/contracts/code_tests.py).
Traces have a completion besides, or end on the assistant's turn; those of equal prompts without a prompt_id share one.
Whatever else a row holds is kept as JSON text in info.
"""

import gzip
import json
import sqlite3
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import polars as pl
from pydantic import Field

from datagen.contracts import code_tests
from datagen.contracts.dataset import is_dataset, iterate, iterate_parquet, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.examples import document_of, example_of
from datagen.contracts.fields import BadRow, Row, id_of, info_of, is_object, json_of, list_of, text_of
from datagen.contracts.params import Params
from datagen.contracts.records import (
    Constraint,
    Document,
    Example,
    Message,
    Prompt,
    Rejection,
    Trace,
    content_id,
    from_row,
)

R = TypeVar("R", Prompt, Trace, Document, Example)
Kind = type[Prompt] | type[Trace] | type[Document] | type[Example]
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
                   "tool": "tool", "function_call": "assistant", "observation": "tool"}  # fmt: skip
_READ = frozenset(
    ("id", "prompt_id", "messages", "prompt", "conversations", "family", "reference", "answer", "constraints",
     "instruction_id_list", "kwargs", "tools", "source", "info", "completion", "reasoning", "tool_calls",
     "finish_reason", "teacher", *code_tests.COLUMNS)
)  # fmt: skip
_KEPT_BYTES = 4 * 2**20  # of a .jsonl file whose rows are kept as checked: half the time of a small run
_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_ROLES = ("system", "developer", "user", "assistant", "tool")


class InputParams(Params):
    """Bounds on what a user's file may hold."""

    max_rejected_share: float = Field(default=0.05, ge=0, le=1)
    max_prompt_chars: int = Field(default=100_000, gt=0)


class Rows(Generic[R]):
    """The rows of an input; iterate it as often as needed, `len` is their number, bad ones included."""

    def __init__(
        self,
        path: Path,
        record: type[R],
        stage: str,
        params: InputParams,
        *,
        of_one_kind: bool = False,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Check the whole input.

        `of_one_kind` refuses a row that is of another record and can be read as this one. `columns` says which of our
        columns one of the file's is, such as {"content": "text"}; what stood in ours is not read.

        Raises:
            DataError: no such path, another kind of dataset, or too large a share of bad rows.
        """
        self.path = path
        self.record: type[R] = record
        self._stage = stage
        self._params = params
        self._of_one_kind = of_one_kind
        self._columns = {theirs: ours for theirs, ours in (columns or {}).items() if theirs != ours}
        if not path.exists():
            raise DataError(f"{path}: no such file or dataset directory")
        if is_dataset(path):
            self._check_dataset()
        elif path.is_file() and path.name.endswith(_SUFFIXES):
            self._check_file()
        else:
            raise DataError(f"{path}: expected a dataset directory, a .jsonl or a .parquet file")

    def __len__(self) -> int:
        """Number of rows."""
        return self._n_rows

    def __iter__(self) -> Iterator[R | Rejection]:
        """Every row, in order, as a record or as the rejection of a row that cannot be used."""
        if is_dataset(self.path):
            for row in iterate(self.path):
                yield cast(R, from_row(self.record, row))
        elif self._keeps:
            yield from self._kept
        else:
            yield from self._file_rows()

    def _check_dataset(self) -> None:
        manifest = read_manifest(self.path)
        if (held := manifest.get("record", "no")) != self.record.__name__:
            raise DataError(f"{self.path}: holds {held} rows, {self._stage} takes {self.record.__name__} rows")
        self._n_rows = int(manifest["rows"]["out"])

    def _check_file(self) -> None:
        self._n_rows = 0
        self._keeps = self.path.suffix == ".jsonl" and self.path.stat().st_size <= _KEPT_BYTES
        self._kept: list[R | Rejection] = []
        first: Rejection | None = None
        reasons: Counter[str] = Counter()
        for row in self._file_rows():
            self._n_rows += 1
            if self._keeps:
                self._kept.append(row)
            if isinstance(row, Rejection):
                first = first or row
                reasons[row.reason] += 1
        if not self._n_rows:
            raise DataError(f"{self.path}: no rows; give at least one")
        share = reasons.total() / self._n_rows
        if first and share > self._params.max_rejected_share:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
            raise DataError(
                f"{self.path}{first.detail.removeprefix(self.path.name)} "
                f"({reasons.total()} of {self._n_rows} rows cannot be used: {counts}; "
                f"mend the file, or allow them by max_rejected_share={min(1.0, share + 0.005):.2f})"
            )

    def _file_rows(self) -> Iterator[R | Rejection]:
        with _Ids() as ids:
            for number, content in _parse_file(self.path):
                place = f"{self.path.name}:{number}"
                own_id: str | None = None
                try:
                    if isinstance(content, BadRow):
                        raise content
                    content = self._renamed(content)
                    own_id = id_of(content)
                    if self._of_one_kind and (kind := kind_of(content)) is not self.record:
                        raise BadRow(
                            "another_record",
                            f"the row is a {kind.__name__}, and the file's first one a {self.record.__name__}; "
                            "keep them in files of their own",
                        )
                    row = to_record(content, self.record, source=place)
                    self._check_row(row)
                    occurrence = ids.occurrence(row.id)
                    if occurrence > 1 and not own_id:
                        row = replace(row, id=f"{row.id}-{occurrence}")
                        occurrence = ids.occurrence(row.id)
                    if occurrence > 1:
                        raise BadRow(
                            "duplicate_id",
                            f"the id {row.id!r} stands in an earlier row; give each row its own, or none",
                        )
                    yield row
                except BadRow as bad:
                    yield Rejection(
                        id=own_id or place, stage=self._stage, reason=bad.reason, detail=_clean(f"{place}: {bad}")
                    )

    def _renamed(self, content: Row) -> Row:
        targets = set(self._columns.values())
        if not targets:
            return content
        others = {key: value for key, value in content.items() if key not in targets and key not in self._columns}
        return others | {ours: content[theirs] for theirs, ours in self._columns.items() if theirs in content}

    def _check_row(self, row: Prompt | Trace | Document | Example) -> None:
        if isinstance(row, Document | Example):
            return
        prompt = row if isinstance(row, Prompt) else row.prompt
        n_chars = sum(len(message.get("content") or "") for message in prompt.messages)
        if n_chars > self._params.max_prompt_chars:
            raise BadRow(
                "prompt_too_long",
                f"the prompt has {n_chars} characters, max_prompt_chars is {self._params.max_prompt_chars}",
            )


def open_rows(path: Path, stage: str, params: InputParams) -> Rows[Any]:
    """The rows of an input of any of four records: a dataset's manifest or a file's first row says which.

    A row of a file that is of another record than the first cannot be used, as nothing of it may be lost.

    Raises:
        DataError: as `Rows`, or a dataset of other records.
    """
    kinds = {kind.__name__: kind for kind in (Prompt, Trace, Document, Example)}
    held = record_of(path)
    if is_dataset(path) and held not in kinds:
        raise DataError(f"{path}: holds {held or 'no'} rows, {stage} takes {', '.join(kinds)} rows")
    record: type[Any] = kinds.get(held or "", Prompt)  # where nothing says, Rows tells what is wrong
    return Rows(path, record, stage, params, of_one_kind=True)


def record_of(path: Path) -> str | None:
    """The name of the record that an input holds: by a dataset's manifest, or by a file's first row; None of neither.

    Whether all of it can be read is for `Rows` to say.
    """
    if is_dataset(path):
        return read_manifest(path).get("record")
    if not path.is_file() or not path.name.endswith(_SUFFIXES):
        return None
    rows = (content for _, content in _parse_file(path) if not isinstance(content, BadRow))
    return next((kind_of(row).__name__ for row in rows), None)


def kind_of(row: Row) -> Kind:
    """Which record a row of a file is: a Trace if it has an answer, a Prompt if it has a question.

    Else it is an Example if it has a text and labels, a Document if it has a text alone.
    """
    turns = next((row[key] for key in ("conversations", "messages", "prompt") if row.get(key) is not None), None)
    last: object = cast(list[Any], turns)[-1] if isinstance(turns, list) and turns else None
    role = (last.get("role") or last.get("from")) if is_object(last) else None
    if row.get("completion") is not None or row.get("tool_calls") or _SHAREGPT_ROLES.get(str(role)) == "assistant":
        return Trace
    if turns is None and row.get("text") is not None:
        return Document if row.get("labels") is None else Example
    return Prompt


def to_record(row: Row, record: type[R], *, source: str) -> R:
    """One row in any of the formats above as a Prompt, a Trace, a Document or an Example.

    Args:
        row: as parsed.
        record: Prompt, Trace, Document or Example.
        source: where it stands, kept where the row names no source of its own.

    Raises:
        BadRow: a field is missing, empty or of the wrong type.
    """
    if record is Document:
        return cast(R, document_of(row, source))
    if record is Example:
        return cast(R, example_of(row, source))
    messages = _messages(row, optional=record is Trace)
    last = messages.pop() if messages and messages[-1].get("role") == "assistant" else None
    family = text_of(row, "family") or ""
    reference = _reference(row, "reference" if row.get("reference") is not None else "answer")
    prompt = Prompt(
        id=id_of(row) or ("" if record is Trace else content_id(messages, reference, family)),
        messages=messages,
        family=family,
        reference=reference,
        constraints=_constraints(row),
        tools=json_of(row.get("tools") or None),
        tests=_tests(row),
        source=text_of(row, "source") or source,
        info=info_of(row, _READ),
    )
    if record is Prompt:
        if not any((message.get("content") or "").strip() for message in messages if message.get("role") == "user"):
            raise BadRow("empty_prompt", "the prompt has no text from the user; fill it or remove the row")
        return cast(R, prompt)
    answer = _answer(row, last)
    tool_calls = json_of(row.get("tool_calls") or None) or answer.get("tool_calls")
    completion = answer.get("content")
    if completion is None and not tool_calls:
        raise BadRow(
            "missing_field", "no text in `completion`, and the conversation does not end on the assistant's turn"
        )
    id = prompt.id or content_id(messages, completion)
    trace = Trace(
        id=id,
        prompt=replace(prompt, id=text_of(row, "prompt_id") or (content_id(messages) if messages else id)),
        completion=completion or "",
        reasoning=text_of(row, "reasoning"),
        tool_calls=tool_calls,
        finish_reason=text_of(row, "finish_reason"),
        teacher=text_of(row, "teacher") or "",
    )
    return cast(R, trace)


def _answer(row: Row, last: Message | None) -> Message:
    """`completion`, a text or the assistant's one message as TRL writes it; else the conversation's `last` turn."""
    given = row.get("completion")
    if isinstance(given, list):
        turns = [_message(turn) for turn in list_of(row["completion"], "completion")]
        return turns[-1] if turns else {}
    return last or {} if given is None else {"content": text_of(row, "completion")}


def _messages(row: Row, *, optional: bool) -> list[Message]:
    if (turns := row.get("conversations")) is not None:
        return [_sharegpt_turn(turn) for turn in list_of(turns, "conversations")]
    given = row.get("messages") if row.get("messages") is not None else row.get("prompt")
    if given is None and optional:
        return []
    if given is None:
        raise BadRow("missing_field", "no `prompt`, `messages` or `conversations`; the row needs one of them")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [_message(turn) for turn in list_of(given, "messages")]


def _message(turn: object) -> Message:
    if not is_object(turn) or turn.get("role") not in _ROLES:
        raise BadRow("wrong_type", f"each message is an object whose `role` is one of {', '.join(_ROLES)}")
    message: Message = {"role": turn["role"]}
    for key in ("content", "name", "tool_call_id"):
        if (value := turn.get(key)) is not None:
            if not isinstance(value, str):
                raise BadRow("wrong_type", f"`{key}` of a message must be a text (got {type(value).__name__})")
            message[key] = value
    if turn.get("tool_calls"):
        message["tool_calls"] = json_of(turn["tool_calls"])
    return message


def _sharegpt_turn(turn: object) -> Message:
    if not is_object(turn) or turn.get("from") not in _SHAREGPT_ROLES or not isinstance(turn.get("value"), str):
        raise BadRow(
            "wrong_type", f"each turn of `conversations` has `from` (one of {', '.join(_SHAREGPT_ROLES)}) and `value`"
        )
    return {"role": _SHAREGPT_ROLES[turn["from"]], "content": turn["value"]}


def _constraints(row: Row) -> list[Constraint]:
    if row.get("instruction_id_list") is None:
        return [_constraint(one) for one in list_of(row.get("constraints") or [], "constraints")]
    ids = list_of(row["instruction_id_list"], "instruction_id_list")
    kwargs = list_of(row.get("kwargs") or [None] * len(ids), "kwargs")
    if len(kwargs) != len(ids):
        raise BadRow("wrong_type", f"{len(ids)} entries in `instruction_id_list`, {len(kwargs)} in `kwargs`")
    return [_constraint({"id": id, "kwargs": arguments}) for id, arguments in zip(ids, kwargs, strict=True)]


def _constraint(given: object) -> Constraint:
    if not is_object(given) or not isinstance(given.get("id"), str):
        raise BadRow("wrong_type", "each of `constraints` is an object with a text `id` and the `kwargs` it takes")
    arguments = given.get("kwargs")
    if is_object(arguments):  # a Parquet struct holds every key of the column, null where the row has none
        arguments = {key: value for key, value in arguments.items() if value is not None}
    return {"id": given["id"], "kwargs": json_of(arguments) or "{}"}


def _tests(row: Row) -> str | None:
    try:
        return code_tests.to_text(row)
    except ValueError as error:
        raise BadRow("wrong_type", str(error)) from None


def _reference(row: Row, key: str) -> str | None:
    """A list of alternatives becomes its JSON text, one of a single alternative that alone."""
    given = row.get(key)
    if not isinstance(given, list):
        return text_of(row, key)
    texts = [text_of({key: one}, key) for one in cast(list[Any], given)]
    if not texts or None in texts:
        raise BadRow("wrong_type", f"`{key}` is a list, which must hold one text or more, and no null")
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _parse_file(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """(line or row number from 1, content) of every row; blank lines are no rows."""
    if path.suffix == ".parquet":
        try:
            yield from enumerate(iterate_parquet(path), start=1)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{path}: not readable as Parquet ({' '.join(str(error).split())}); write it again"
            ) from None
        return
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse_line(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not readable as gzip ({error}); fetch or write it again") from None


def _parse_line(line: bytes) -> Row | BadRow:
    try:
        content = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRow("not_utf8", f"byte {error.start} is not UTF-8; save the file as UTF-8")
    except (ValueError, RecursionError) as error:  # not only JSONDecodeError: a number may have too many digits
        return BadRow("malformed_json", f"not JSON ({error}); each line must be one object")
    if not is_object(content):
        return BadRow(
            "malformed_json", f"expected an object, got {type(content).__name__}; each line must be one object"
        )
    if b"\\u" in line:  # only an escape can smuggle in half a surrogate pair, which Parquet cannot hold
        try:
            json.dumps(content, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return BadRow("not_utf8", "a text holds half a surrogate pair, which is no Unicode; mend the text")
    return content


class _Ids:
    """Counts ids in a temporary database, so that a million of them take no memory."""

    def __enter__(self) -> "_Ids":
        self._file = tempfile.NamedTemporaryFile(prefix="datastill-ids-")
        self._db = sqlite3.connect(self._file.name, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID")
        self._db.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._file.close()

    def occurrence(self, id: str) -> int:
        """1 for the first row with this id, 2 for the second, and so on."""
        statement = "INSERT INTO ids VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET n = n + 1 RETURNING n"
        return self._db.execute(statement, (id,)).fetchone()[0]
