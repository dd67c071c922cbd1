"""Labels that a teacher proposes, taken to those of a taxonomy, or rejected.

A teacher that is given a taxonomy names labels outside it (Emo Pillars, arXiv:2504.16856, leaves open what to do then).
Here a proposed label is, in this order:

    exact            a label of the taxonomy, but for case, spaces and hyphens
    listed           one of its `synonyms`
    no_class         one of the words that it says are no label: rejected
    embedding        near enough to one label: the cosine of `label: definition` as proposed with `name: definition` of
                     every label (Reimers and Gurevych 2019, arXiv:1908.10084) reaches a threshold at the nearest
    below_threshold  not near enough to any: rejected
    not_calibrated   unknown, and nothing is embedded, or the taxonomy lists no words to read a threshold off: rejected
    not_a_label      empty, or too long for a label: rejected

The threshold is the smallest at which `target_precision` of the words that it lets through go to their label; a word of
`no_class` that goes through goes wrong. It is read off half of the listed words, those that a hash of the word puts
there; the other half tests it (`python -m benchmarks.synthesis --only labels`).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import polars as pl

from datagen.contracts.calibration import Calibration, calibrate
from datagen.contracts.errors import DataError
from datagen.synthesis.taxonomy import Taxonomy, fold

How = Literal["exact", "listed", "no_class", "embedding", "below_threshold", "not_calibrated", "not_a_label"]
Embed = Callable[[Sequence[str]], Any]
"""Texts to (R, E) vectors of length one, as an array or a tensor on the CPU: `datagen.backends.embeddings.embed`."""

MAX_CHARS = 100  # of a label
_DIGITS = 6  # of a cosine; the seventh depends on the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMapping:
    """A proposed label and what it was taken for.

    Attributes:
        id: the proposed label, folded.
        proposed: as the teacher wrote it; where it wrote it in several ways, the first of them in order of characters.
        mapped_to: the taxonomy's label; None where it was rejected.
        cosine: with the nearest label, where it was looked for by embedding.
        n: times it was proposed.
        how: see above.
    """

    id: str
    proposed: str
    mapped_to: str | None
    cosine: float | None
    n: int
    how: How

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "proposed": pl.String,
        "mapped_to": pl.String,
        "cosine": pl.Float64,
        "n": pl.Int64,
        "how": pl.String,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a threshold does on listed words.

    Attributes:
        n_words: of them.
        n_of_class: those that are a synonym of a label.
        n_mapped: let through by the threshold.
        n_right: of these, taken to the label that they are listed for.
        precision: n_right / n_mapped; None where nothing is let through.
        recall: n_right / n_of_class; None where no word has a label.
    """

    n_words: int
    n_of_class: int
    n_mapped: int
    n_right: int
    precision: float | None
    recall: float | None


class LabelMap:
    """Maps labels to one taxonomy.

    An unknown label is embedded alone, so that what it is taken for does not depend on what was proposed before.
    """

    def __init__(
        self, taxonomy: Taxonomy, embed: Embed | None, *, target_precision: float = 0.95, threshold: float | None = None
    ) -> None:
        """Nothing is embedded before an unknown label comes.

        Args:
            taxonomy: whose labels these are.
            embed: see `Embed`; without it no unknown label is mapped.
            target_precision: in (0, 1], asked of the threshold on the words that it is read off.
            threshold: a cosine to use in place of it.
        """
        self.taxonomy = taxonomy
        self._embed = embed
        self._target_precision = target_precision
        self._given = threshold
        self._listed = {fold(word): label for word, label in listed_words(taxonomy)}
        self._matched: dict[tuple[str, str], tuple[str | None, float | None, How]] = {}

    def match(self, proposed: str, definition: str = "") -> LabelMapping:
        """What one proposal is taken for, with `n` 1.

        Args:
            proposed: the label.
            definition: what the teacher says that it means, where it does.

        Raises:
            DataError: the label is unknown, and no threshold has the precision asked for.
        """
        proposed, definition = proposed.strip(), " ".join(definition.split())
        if len(proposed) > MAX_CHARS or not (folded := fold(proposed)):
            cut = proposed[:MAX_CHARS]
            return LabelMapping(id=cut, proposed=cut, mapped_to=None, cosine=None, n=1, how="not_a_label")
        found = self._matched.get((folded, definition))
        if found is None:
            found = self._matched[folded, definition] = self._match(folded, definition)
        mapped_to, cosine, how = found
        return LabelMapping(id=folded, proposed=proposed, mapped_to=mapped_to, cosine=cosine, n=1, how=how)

    def _match(self, folded: str, definition: str) -> tuple[str | None, float | None, How]:
        if (label := self.taxonomy.find(folded)) is not None:
            return label, None, "exact"
        if folded in self._listed:
            label = self._listed[folded]
            return label, None, "no_class" if label is None else "listed"
        if (threshold := self.threshold) is None:
            return None, None, "not_calibrated"
        ((label, cosine),) = self.nearest([f"{folded}: {definition}" if definition else folded])
        return (label, cosine, "embedding") if cosine >= threshold else (None, cosine, "below_threshold")

    @property
    def threshold(self) -> float | None:
        """The least cosine that is trusted; None where none was given and none can be read off."""
        if self._embed is None:
            return None
        if self._given is not None:
            return self._given
        return self.calibration.threshold if self.calibration else None

    @cached_property
    def calibration(self) -> Calibration | None:
        """The threshold read off the listed words of the first half; None where there are none, or nothing is embedded.

        Its recall is that among words whose nearest label is right; see `evaluate` for the recall among all.

        Raises:
            DataError: all of them are right, or wrong, or no threshold has the precision asked for.
        """
        words = split_words(self.taxonomy)[0]
        if self._embed is None or not words:
            return None
        found = self.nearest([word for word, _ in words])
        right = [label == nearest for (nearest, _), (_, label) in zip(found, words, strict=True)]
        try:
            return calibrate([cosine for _, cosine in found], right, self._target_precision)
        except DataError as error:
            raise DataError(
                f"taxonomy {self.taxonomy.name}: no threshold for labels outside it can be read off its synonyms and "
                f"no_class: {error}; or leave both out, so that unknown labels are rejected"
            ) from None

    def nearest(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """For each text the label whose `name: definition` is nearest, the first of equals, and the cosine."""
        import numpy as np

        assert self._embed, "without a function that embeds nothing is near"
        cosines = np.asarray(self._embed(texts), np.float64) @ self._labels.T
        best = cosines.argmax(axis=1)
        names = self.taxonomy.names
        return [(names[i], round(float(row[i]), _DIGITS)) for i, row in zip(best.tolist(), cosines, strict=True)]

    @cached_property
    def _labels(self) -> Any:
        import numpy as np

        assert self._embed
        return np.asarray(self._embed([label.described for label in self.taxonomy.labels]), np.float64)


def listed_words(taxonomy: Taxonomy) -> list[tuple[str, str | None]]:
    """Every word of the taxonomy's lists, and its label; None of those that are no label."""
    of_labels = [(word, taxonomy.find(label)) for label, words in taxonomy.synonyms.items() for word in words]
    return [*of_labels, *((word, None) for word in taxonomy.no_class)]


def split_words(taxonomy: Taxonomy) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
    """The listed words that the threshold is read off, and those that test it.

    A word is in the first part where the SHA-256 of what `fold` makes of it begins with an even byte.
    """
    parts: tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]] = ([], [])
    for word, label in listed_words(taxonomy):
        parts[hashlib.sha256(fold(word).encode()).digest()[0] % 2].append((word, label))
    return parts


def evaluate(label_map: LabelMap, words: Sequence[tuple[str, str | None]]) -> Figures:
    """What the threshold does on words whose label is known, as if they were not listed."""
    threshold = label_map.threshold
    found = label_map.nearest([word for word, _ in words]) if words else []
    mapped = [
        nearest == label
        for (nearest, cosine), (_, label) in zip(found, words, strict=True)
        if threshold is not None and cosine >= threshold
    ]
    n_of_class = sum(label is not None for _, label in words)
    return Figures(
        n_words=len(words),
        n_of_class=n_of_class,
        n_mapped=len(mapped),
        n_right=sum(mapped),
        precision=sum(mapped) / len(mapped) if mapped else None,
        recall=sum(mapped) / n_of_class if n_of_class else None,
    )


class Tally:
    """Mappings counted as they come; it grows with the number of different labels, not with that of proposals."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, How, str | None], LabelMapping] = {}

    def add(self, one: LabelMapping) -> None:
        """Count one more."""
        key = (one.id, one.how, one.mapped_to)
        seen = self._rows.get(key)
        self._rows[key] = one if seen is None else replace(
            seen,
            proposed=min(seen.proposed, one.proposed),
            cosine=max((c for c in (seen.cosine, one.cosine) if c is not None), default=None),
            n=seen.n + one.n,
        )  # fmt: skip

    def table(self) -> list[LabelMapping]:
        """One row for each label and way in which it was mapped, with the counts added, the most frequent first.

        The same for any order in which they came. Where a label came with several definitions, the greatest cosine
        stands.
        """
        return sorted(self._rows.values(), key=lambda row: (-row.n, row.id, row.how, row.mapped_to or ""))


def tabulate(mappings: Iterable[LabelMapping]) -> list[LabelMapping]:
    """`Tally.table` of them."""
    tally = Tally()
    for one in mappings:
        tally.add(one)
    return tally.table()


def summarise(label_map: LabelMap, table: Sequence[LabelMapping]) -> dict[str, Any]:
    """For the metrics: proposals by how they were mapped, and the calibration where one was needed."""
    by_how: dict[str, int] = {}
    for row in table:
        by_how[row.how] = by_how.get(row.how, 0) + row.n
    needed = any(row.cosine is not None for row in table)
    calibration = label_map.calibration if needed else None
    return {
        "proposed": sum(row.n for row in table),
        "by_how": dict(sorted(by_how.items())),
        "threshold": label_map.threshold if needed else None,
        "calibration": asdict(calibration) if calibration else None,
    }
