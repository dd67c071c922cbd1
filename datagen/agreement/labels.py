"""The labels that judges choose among, and those that a row has by each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from datagen.contracts.records import Example
from datagen.synthesis.taxonomy import Taxonomy, fold

LabelSet = frozenset[str]
_ROUNDING = 1e-9  # a weight that was read as text may be this much less than it says


@dataclass(frozen=True)
class Labels:
    """Which there are, in order, and what they mean.

    Attributes:
        definitions: by name; empty where nothing is known.
        neutral: the label of a text without another, where there is one: it is then every empty set's.
    """

    definitions: Mapping[str, str]
    neutral: str | None = None

    @property
    def names(self) -> list[str]:
        """Of all of them, in order."""
        return list(self.definitions)

    def find(self, name: str) -> str | None:
        """The label of that name, but for case, spaces and hyphens; None where there is none."""
        return self._by_fold.get(fold(name))

    @cached_property
    def _by_fold(self) -> dict[str, str]:
        return {fold(name): name for name in self.definitions}

    def of(self, names: Iterable[str]) -> LabelSet:
        """The set of the labels of those names; others are left out, and an empty set is the neutral label's."""
        found = frozenset(label for name in names if (label := self.find(name)) is not None)
        return found or frozenset([self.neutral] if self.neutral is not None else [])

    def of_example(self, row: Example, positive_from: float) -> LabelSet:
        """Of the labels that hold with at least that weight."""
        return self.of(one["name"] for one in row.labels if one["weight"] >= positive_from - _ROUNDING)


def of_taxonomy(taxonomy: Taxonomy) -> Labels:
    """Its labels with their definitions."""
    return Labels({one.name: one.definition for one in taxonomy.labels}, taxonomy.find(taxonomy.neutral or ""))


def of_rows(rows: Iterable[Example]) -> Labels:
    """All labels that some row has, by name; of two spellings of one the first."""
    names: dict[str, str] = {}
    for name in sorted({label["name"] for row in rows for label in row.labels}):
        names.setdefault(fold(name), name)
    return Labels(dict.fromkeys(names.values(), ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The labels of a row by each judge, without weights; None where the judge gave no answer.

    Attributes:
        id: of the row.
        labels: its own.
        classifier: by the classifier.
        second_pass: by the teacher asked again.
        people: by more than half of those who judged it.
        n_people: who did.
        why_not: judge to the reason why it gave no answer, as JSON text.
    """

    id: str
    labels: list[str]
    classifier: list[str] | None = None
    second_pass: list[str] | None = None
    people: list[str] | None = None
    n_people: int = 0
    why_not: str | None = None

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "labels": pl.List(pl.String),
        "classifier": pl.List(pl.String),
        "second_pass": pl.List(pl.String),
        "people": pl.List(pl.String),
        "n_people": pl.Int32,
        "why_not": pl.String,
    }


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A judge gave a row no labels: a reason to count by, and a sentence."""

    reason: str
    detail: str


Answers = Sequence[LabelSet | NoAnswer]
"""What one judge said of each row, in order."""
