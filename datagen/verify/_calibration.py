"""The threshold at which a similarity may be trusted, read off pairs that somebody labelled.

A pair is an answer, a reference and whether the answer is right. Above a threshold t the precision is the share of
right pairs among those with a similarity of at least t, the recall their share of all right pairs (van Rijsbergen.
Information Retrieval. 1979, chapter 7). The threshold is the smallest similarity of a pair at which the precision is
high enough: of all such thresholds it has the highest recall.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from datagen.contracts.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An answer, a reference, and whether the answer is right by it."""

    answer: str
    reference: str
    label: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A threshold, what it does on the pairs that it was read off, and how many of them there are."""

    threshold: float
    precision: float
    recall: float
    n_pairs: int
    n_true: int


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a .jsonl file with `answer`, `reference` and `label`, which is true or false, in each line.

    Raises:
        DataError: there is no such file, or a line is not such a pair.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; `pairs` names a .jsonl file of labelled pairs, each with answer, reference "
            "and label"
        ) from None
    return [_pair(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _pair(line: bytes, place: str) -> Pair:
    try:
        row: Any = json.loads(line.decode("utf-8-sig"))
        answer, reference, label = row["answer"], row["reference"], row["label"]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); each line is an object") from None
    except (KeyError, TypeError):
        raise DataError(f"{place}: expected an object with answer, reference and label; mend the line") from None
    if not isinstance(answer, str) or not isinstance(reference, str) or not isinstance(label, bool):
        raise DataError(f"{place}: answer and reference are texts, and label is true or false; mend the line")
    return Pair(answer=answer, reference=reference, label=label)


def calibrate(similarities: Sequence[float], labels: Sequence[bool], target_precision: float) -> Calibration:
    """The smallest positive similarity that, as a threshold, has at least this precision.

    Raises:
        DataError: all labels are the same, so nothing is told apart; or no threshold is that precise.
    """
    n_true = sum(labels)
    if not 0 < n_true < len(labels):
        raise DataError(
            f"pairs: {n_true} of {len(labels)} are labelled true; give right pairs and wrong ones, as similar as those "
            "that occur"
        )
    found: Calibration | None = None
    highest = n_above = n_true_above = 0.0
    ordered = sorted(zip(similarities, labels, strict=True), reverse=True)
    for similarity, group in groupby(ordered, key=lambda pair: pair[0]):
        if similarity <= 0:
            break
        tied = [label for _, label in group]
        n_above += len(tied)
        n_true_above += sum(tied)
        precision = n_true_above / n_above
        highest = max(highest, precision)
        if precision >= target_precision:
            found = Calibration(
                threshold=similarity, precision=precision, recall=n_true_above / n_true, n_pairs=len(labels),
                n_true=n_true,
            )  # fmt: skip
    if found is None:
        raise DataError(
            f"pairs: no threshold has the precision target_precision={target_precision:g} on these {len(labels)}, the "
            f"best has {highest:.4g}; name another embedder, label more pairs, or accept less"
        )
    return found
