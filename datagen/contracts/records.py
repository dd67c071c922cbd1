"""Rows of text datasets, typed for Parquet.

They are Prompt, Trace, Document, Example, Prediction, Verdict, Rejection, Measurement, Repair and PromptScores.

An id names its content and its parent: a prompt's is the user's own or a hash of what it says, a trace's is its
prompt's id, the sample index and the start of the request's hash. A verdict has the id of the trace it judges, a
rejection that of the row it drops.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, ClassVar, Literal, Protocol, TypedDict

import polars as pl

Status = Literal["pass", "fail", "unparsed", "error", "timeout"]
BAD_ANSWERS = frozenset({"empty_answer", "no_reasoning", "reasoning_only"})
"""Reasons of rejections that say that the teacher answered, badly: attempts like any other, where attempts count."""


class Message(TypedDict, total=False):
    """One turn of a conversation, as chat APIs write it; `tool_calls` is JSON text."""

    role: str
    content: str | None
    name: str | None
    tool_calls: str | None
    tool_call_id: str | None


class Constraint(TypedDict):
    """One verifiable instruction: its type, as IFEval names it, and its arguments as JSON text."""

    id: str
    kwargs: str


class Label(TypedDict):
    """A label of a text and its weight in [0, 1]: 1 where it holds without degrees."""

    name: str
    weight: float


_LABEL = pl.Struct({"name": pl.String, "weight": pl.Float64})
_MESSAGE = pl.Struct({name: pl.String for name in ("role", "content", "name", "tool_calls", "tool_call_id")})
_CONSTRAINT = pl.Struct({"id": pl.String, "kwargs": pl.String})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a teacher is asked, and what is known of a right answer.

    Attributes:
        id: unique in its dataset.
        messages: the conversation up to the answer.
        family: the kind of task; rates are reported by it.
        reference: the right answer, where there is one.
        constraints: verifiable instructions that the answer must follow.
        tools: JSON text of the tool definitions, where the teacher may call tools.
        tests: JSON text of what code must pass: `asserts`, `cases` and `setup`, see `datagen.contracts.code_tests`.
        source: the raw row that the prompt was made from.
        info: JSON text of whatever else the user's row held.
    """

    id: str
    messages: list[Message]
    family: str = ""
    reference: str | None = None
    constraints: list[Constraint] = field(default_factory=list[Constraint])
    tools: str | None = None
    tests: str | None = None
    source: str = ""
    info: str | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "messages": pl.List(_MESSAGE),
        "family": pl.String,
        "reference": pl.String,
        "constraints": pl.List(_CONSTRAINT),
        "tools": pl.String,
        "tests": pl.String,
        "source": pl.String,
        "info": pl.String,
    }

    @property
    def text(self) -> str:
        """The last user message."""
        return next((m.get("content") or "" for m in reversed(self.messages) if m.get("role") == "user"), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One answer of one teacher to one prompt, with everything needed to judge it and to train on it.

    Attributes:
        id: `{prompt_id}#{sample_index}.{start of request_key}`.
        prompt: the row it answers, flattened into the trace's columns; its id becomes `prompt_id`.
        sample_index: which of the prompt's attempts, from 0.
        completion: the answer, without the reasoning.
        reasoning: what the teacher thought first, where it says so.
        tool_calls: JSON text of the tools that the teacher called, as OpenAI's API writes them.
        finish_reason: `stop`, `length` or what the server named.
        teacher: the model's name.
        request_key: the ledger's key, in hex.
        seed: sent with the request.
        n_prompt_tokens: by the teacher's tokenizer, as the teacher counted; 0 where another sample of the same request
            bears them.
        n_completion_tokens: likewise, reasoning included.
        score: what the method of the traces stage gave it, where it gives scores.
        best: whether it is the best of its prompt's attempts, where a method chose one.
        prompt_token_ids: of the prompt in the teacher's chat template, where the teacher gives them.
        token_ids: of all that it drew, reasoning and the end of the turn included, so that no student need tokenise
            the text and get others.
    """

    id: str
    prompt: Prompt
    sample_index: int = 0
    completion: str
    reasoning: str | None = None
    tool_calls: str | None = None
    finish_reason: str | None = None
    teacher: str = ""
    request_key: str = ""
    seed: int | None = None
    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None
    score: float | None = None
    best: bool | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "prompt_id": pl.String,
        "sample_index": pl.Int32,
        **{name: dtype for name, dtype in Prompt.SCHEMA.items() if name != "id"},
        "completion": pl.String,
        "reasoning": pl.String,
        "tool_calls": pl.String,
        "finish_reason": pl.String,
        "teacher": pl.String,
        "request_key": pl.String,
        "seed": pl.Int64,
        "n_prompt_tokens": pl.Int32,
        "n_completion_tokens": pl.Int32,
        "score": pl.Float64,
        "best": pl.Boolean,
        "prompt_token_ids": pl.List(pl.Int32),
        "token_ids": pl.List(pl.Int32),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that is no question and no answer, such as a page or a paragraph.

    Attributes:
        id: unique in its dataset: the user's own or a hash of the text.
        text: all of it.
        source: where it comes from, as the user's row says, else the row it was.
        domain: the kind of text that it is, such as law; a mix of domains is weighed by it.
        licence: what it may be used for, as its origin says; empty where nothing says.
        info: JSON text of whatever else the user's row held.
    """

    id: str
    text: str
    source: str = ""
    domain: str = ""
    licence: str = ""
    info: str | None = None

    SCHEMA: ClassVar[dict[str, Any]] = dict.fromkeys(("id", "text", "source", "domain", "licence", "info"), pl.String)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text with its labels, for students that classify.

    Attributes:
        id: unique in its dataset.
        text: what is classified, such as an utterance.
        context: what a reader must know to classify it; None where the text stands alone.
        character: who speaks, in a few words.
        labels: by name, each once; empty where none holds.
        reason: why these labels, where a teacher said so.
        family: the set that it belongs to; rates are reported by it.
        source: the narrative or row that it was made from.
        teacher: the model's name, where one wrote it.
        info: JSON text of whatever else the user's row held.
    """

    id: str
    text: str
    context: str | None = None
    character: str | None = None
    labels: list[Label] = field(default_factory=list[Label])
    reason: str | None = None
    family: str = ""
    source: str = ""
    teacher: str = ""
    info: str | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "text": pl.String,
        "context": pl.String,
        "character": pl.String,
        "labels": pl.List(_LABEL),
        "reason": pl.String,
        "family": pl.String,
        "source": pl.String,
        "teacher": pl.String,
        "info": pl.String,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a classifier says of an Example, beside its labels.

    Attributes:
        id: of the example.
        family: likewise.
        labels: the example's own.
        probabilities: of every class, in the model's order; a weight is the probability.
        predicted: names of the classes whose probability is at least their threshold.
    """

    id: str
    family: str = ""
    labels: list[Label]
    probabilities: list[Label]
    predicted: list[str]

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "family": pl.String,
        "labels": pl.List(_LABEL),
        "probabilities": pl.List(_LABEL),
        "predicted": pl.List(pl.String),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier found.

    Attributes:
        id: of the trace.
        method: the verifier.
        status: `pass` and `fail` are findings; `unparsed`, `error` and `timeout` say why there is none.
        score: in [0, 1]; 0 where there is no finding.
        answer: what was taken from the completion as its answer.
        reason: a code for what failed, such as a constraint's id; a row dropped for it is counted under it.
        detail: what failed, in words.
    """

    id: str
    method: str
    status: Status
    score: float
    answer: str | None = None
    reason: str | None = None
    detail: str | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("id", "method", "status", "score", "answer", "reason", "detail"), pl.String),
        "score": pl.Float64,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A row that a stage dropped: which, where, and why. `reason` is a code to count by, `detail` a sentence."""

    id: str
    stage: str
    reason: str
    detail: str

    SCHEMA: ClassVar[dict[str, Any]] = dict.fromkeys(("id", "stage", "reason", "detail"), pl.String)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One answer as it is compared with other teachers' answers, by one tokenizer and one scoring model.

    Attributes:
        id: of the trace.
        prompt_id: of its prompt.
        teacher: the name that it is compared under.
        verified: whether verify kept it.
        n_tokens: of reasoning, answer and tool calls, by the scoring model's tokenizer.
        nll: negative log-likelihood of those tokens after the prompt, in nats.
        not_scored: why there is no `nll`.
        looping: whether one n-gram stands more often than the bound.
        repeated_share: share of n-grams that stood there before; None where the text is too short for one.
        n_prompt_tokens: as the teacher counted.
        n_completion_tokens: likewise.
    """

    id: str
    prompt_id: str
    family: str
    teacher: str
    sample_index: int
    verified: bool
    n_tokens: int
    nll: float | None = None
    not_scored: str | None = None
    looping: bool
    repeated_share: float | None = None
    n_prompt_tokens: int | None = None
    n_completion_tokens: int | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "prompt_id": pl.String,
        "family": pl.String,
        "teacher": pl.String,
        "sample_index": pl.Int32,
        "verified": pl.Boolean,
        "n_tokens": pl.Int32,
        "nll": pl.Float64,
        "not_scored": pl.String,
        "looping": pl.Boolean,
        "repeated_share": pl.Float64,
        "n_prompt_tokens": pl.Int32,
        "n_completion_tokens": pl.Int32,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What became of a prompt's reference when the teachers' answers were held against it.

    Attributes:
        id: of the prompt.
        case: `repaired`, or why the reference stays.
        old_reference: the prompt's own.
        new_reference: what it was replaced by, where it was.
        majority: the answer with most votes, where there are votes.
        n_majority: votes for it.
        n_votes: all of them; a vote is an answer that could be read.
        votes: JSON text: teacher to answer to number of votes.
        second: the second source's answer, where it has one.
        second_source: its name.
    """

    id: str
    case: str
    old_reference: str | None = None
    new_reference: str | None = None
    majority: str | None = None
    n_majority: int = 0
    n_votes: int = 0
    votes: str = "{}"
    second: str | None = None
    second_source: str | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "case": pl.String,
        "old_reference": pl.String,
        "new_reference": pl.String,
        "majority": pl.String,
        "n_majority": pl.Int32,
        "n_votes": pl.Int32,
        "votes": pl.String,
        "second": pl.String,
        "second_source": pl.String,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptScores:
    """What the attempts at one prompt say together of its difficulty.

    Attributes:
        prompt_id: of the prompt.
        n_attempts: that were judged.
        n_passes: those of them with a score of at least the threshold.
        pass_rate: n_passes / n_attempts.
        mean_score: of the verdicts.
        std_score: their standard deviation, as of a population.
        cv: coefficient of variation, std_score / mean_score; None where the mean is 0.
        teachers: for each teacher, by name, `teacher`, `n_attempts`, `n_passes`, `pass_rate` and `mean_score`.
    """

    prompt_id: str
    family: str
    n_attempts: int
    n_passes: int
    pass_rate: float
    mean_score: float
    std_score: float
    cv: float | None = None
    teachers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    SCHEMA: ClassVar[dict[str, Any]] = {
        "prompt_id": pl.String,
        "family": pl.String,
        "n_attempts": pl.Int32,
        "n_passes": pl.Int32,
        "pass_rate": pl.Float64,
        "mean_score": pl.Float64,
        "std_score": pl.Float64,
        "cv": pl.Float64,
        "teachers": pl.List(
            pl.Struct(
                {
                    "teacher": pl.String,
                    "n_attempts": pl.Int32,
                    "n_passes": pl.Int32,
                    "pass_rate": pl.Float64,
                    "mean_score": pl.Float64,
                }
            )
        ),
    }


class Record(Protocol):
    """Any class of rows; its METADATA, where it has one, goes into its Parquet files for other readers."""

    SCHEMA: ClassVar[dict[str, Any]]


def to_row(record: Record) -> dict[str, Any]:
    """The record as a flat row with the columns of its SCHEMA."""
    if isinstance(record, Trace):
        values = (*_of_trace(record), *_of_prompt(record.prompt))
        return dict(zip(_TRACE_COLUMNS, values, strict=True))
    return {name: getattr(record, name) for name in type(record).SCHEMA}


def prompt_from_row(row: Mapping[str, Any], *, id: str) -> Prompt:
    """The prompt in a row that has its columns; messages lose the keys that Parquet filled with null."""
    constraints: list[Constraint] = row.get("constraints") or []
    return Prompt(
        id=id,
        messages=[_without_nulls(message) for message in row["messages"]],
        family=row.get("family") or "",
        reference=row.get("reference"),
        constraints=[Constraint(id=one["id"], kwargs=one["kwargs"]) for one in constraints],
        tools=row.get("tools"),
        tests=row.get("tests"),
        source=row.get("source") or "",
        info=row.get("info"),
    )


def trace_from_row(row: Mapping[str, Any]) -> Trace:
    """The trace in a row that has its columns."""
    own = {name: row.get(name) for name in _TRACE_ONLY}
    own["sample_index"] = own["sample_index"] or 0
    return Trace(
        prompt=prompt_from_row(row, id=row["prompt_id"]),
        **{name: value for name, value in own.items() if value is not None},
    )


def from_row(record: type[Record], row: Mapping[str, Any]) -> Record:
    """The record of type `record` in a row that `to_row` made."""
    if record is Trace:
        return trace_from_row(row)
    if record is Prompt:
        return prompt_from_row(row, id=row["id"])
    return record(**row)


def content_id(messages: Sequence[Message], *more: str | None) -> str:
    """16 hex digits of SHA-256 over the messages and whatever else makes the row what it is."""
    text = json.dumps([list(messages), *more], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


_TRACE_ONLY = tuple(f.name for f in fields(Trace) if f.name != "prompt")
_PROMPT_ONLY = tuple(name for name in Prompt.SCHEMA if name != "id")
_TRACE_COLUMNS = (*_TRACE_ONLY, "prompt_id", *_PROMPT_ONLY)
_of_trace = attrgetter(*_TRACE_ONLY)
_of_prompt = attrgetter("id", *_PROMPT_ONLY)


def _without_nulls(message: Mapping[str, Any]) -> Message:
    kept: Message = {}
    for key in Message.__annotations__:
        if message.get(key) is not None:
            kept[key] = message[key]
    return kept
