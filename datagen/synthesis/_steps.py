"""What emo_pillars asks for and keeps at each of its steps: shapes of answers, rows of tables."""

from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import BaseModel, Field, StringConstraints, create_model

from datagen.contracts.records import Label
from datagen.synthesis.structured import Degree

MAX_NAME_CHARS = 60  # of an actor or a label
LABELS = pl.List(pl.Struct({"name": pl.String, "weight": pl.Float64}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody in a narrative who can speak; `parent` is the narrative's id."""

    id: str
    parent: str
    name: str
    description: str

    SCHEMA: ClassVar[dict[str, Any]] = dict.fromkeys(("id", "parent", "name", "description"), pl.String)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What an actor could say; `parent` is the actor's id, and the narrative's where nobody in particular speaks.

    Attributes:
        neutral: whether it was asked for as one without a label.
        wanted: the labels that the teacher was asked to let be heard, where it was.
    """

    id: str
    parent: str
    text: str
    neutral: bool
    wanted: list[str] = field(default_factory=list[str])

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "parent": pl.String,
        "text": pl.String,
        "neutral": pl.Boolean,
        "wanted": pl.List(pl.String),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftLabels:
    """The labels of an utterance, `parent`: as the teacher proposed them, and as the taxonomy has them."""

    id: str
    parent: str
    proposed: list[Label]
    labels: list[Label]

    SCHEMA: ClassVar[dict[str, Any]] = {"id": pl.String, "parent": pl.String, "proposed": LABELS, "labels": LABELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What happens before an utterance, `parent`, is said.

    Attributes:
        written: by the teacher.
        text: without the sentences that give a label away.
        n_named: sentences dropped for a label's word.
        n_revealing: sentences dropped as the teacher said so.
    """

    id: str
    parent: str
    written: str
    text: str
    n_named: int
    n_revealing: int

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "parent": pl.String,
        "written": pl.String,
        "text": pl.String,
        "n_named": pl.Int32,
        "n_revealing": pl.Int32,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """An utterance, `parent`, in words that need their context."""

    id: str
    parent: str
    text: str

    SCHEMA: ClassVar[dict[str, Any]] = dict.fromkeys(("id", "parent", "text"), pl.String)


TABLES: dict[str, Any] = {
    "actors": Actor,
    "utterances": Utterance,
    "soft_labels": SoftLabels,
    "contexts": Context,
    "rewrites": Rewrite,
}


def _text(max_chars: int) -> Any:
    return Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=max_chars)]


def _shape(name: str, fields: dict[str, Any]) -> Any:
    """A model whose fields, given by their types, are all required."""
    required: dict[str, Any] = {key: (kind, ...) for key, kind in fields.items()}
    return create_model(name, **required)


def _list(of: Any, n: int, least: int = 0) -> Any:
    return Annotated[list[of], Field(min_length=least, max_length=n)]


@cache
def actors_shape(n: int, max_chars: int) -> type[BaseModel]:
    """`actors`: at most `n` of `name` and `description`; there may be none."""
    one = _shape("Actor", {"name": _text(MAX_NAME_CHARS), "description": _text(max_chars)})
    return _shape("Actors", {"actors": _list(one, n)})


@cache
def utterances_shape(n_felt: int, n_neutral: int, max_chars: int) -> type[BaseModel]:
    """`utterances` and `neutral`: at most so many texts."""
    text = _text(max_chars)
    return _shape("Utterances", {"utterances": _list(text, n_felt), "neutral": _list(text, n_neutral)})


@cache
def labels_shape(n: int) -> type[BaseModel]:
    """`labels`: from one to `n` of `label` and `expressiveness`, a `Degree`."""
    one = _shape("SoftLabel", {"label": _text(MAX_NAME_CHARS), "expressiveness": Degree})
    return _shape("SoftLabels", {"labels": _list(one, n, least=1)})


@cache
def text_shape(name: str, max_chars: int) -> type[BaseModel]:
    """One text, under that name."""
    return _shape(name.capitalize(), {name: _text(max_chars)})


@cache
def numbers_shape(n: int) -> type[BaseModel]:
    """`sentences`: at most `n` of the numbers from 1 to `n`."""
    return _shape("Numbers", {"sentences": _list(Annotated[int, Field(ge=1, le=n)], n)})
