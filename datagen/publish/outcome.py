"""What a gate says of what is to be published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datagen.contracts.dataset import read_manifest

Splits = Mapping[str, Path]  # split to the directory that a stage wrote; of a student one, `train`
_TEXTS = {"Prompt", "Trace", "Document", "Example"}  # records whose rows hold one text each
_NO_TEXTS = ("Image", "Graph", "Node", "Trajector", "Score", "Weight", "Point")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Whether the gate lets it through, and why, in one sentence with place, value and, where it does not, remedy."""

    passed: bool
    said: str


def passed(said: str) -> Outcome:
    """It may be published, as far as this gate looks."""
    return Outcome(passed=True, said=said)


def refused(said: str) -> Outcome:
    """It may not."""
    return Outcome(passed=False, said=said)


def has_texts(path: Path) -> bool:
    """Whether its rows are texts, each in one of the four records."""
    return read_manifest(path).get("record") in _TEXTS


def is_of_texts(path: Path) -> bool:
    """Whether it was made of texts: rows of any kind with some, language models, signals."""
    manifest = read_manifest(path)
    record = str(manifest.get("record") or "")
    return record in _TEXTS or not any(part in record for part in _NO_TEXTS)
