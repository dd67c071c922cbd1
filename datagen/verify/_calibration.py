"""Answers that somebody labelled right or wrong, off which the threshold of a similarity is read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.contracts.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An answer, a reference, and whether the answer is right by it."""

    answer: str
    reference: str
    label: bool


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
