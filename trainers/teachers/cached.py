"""The cached teacher: what it gave to the tokens of a trace, read from a dataset of TokenSignals.

Source: none; the forms that a signal has on disk (topk, sampled, hybrid) cite theirs in `datagen.signals`.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params
from trainers.lm_rows import LearnedRow

if TYPE_CHECKING:
    import torch

    from trainers.batches import Batch
    from trainers.signals import SparseLogProbs
    from trainers.teachers._token_signals import StoredSignals


class Config(Params):
    """No parameters: the dataset is an input."""


class CachedTeacher:
    """A `trainers.teachers.Teacher`."""

    context = sys.maxsize  # what was too long has no signal

    def __init__(self, signals: "StoredSignals") -> None:
        """Give what stands in `signals`."""
        self._signals = signals
        named = ("teacher", "method", "params", "tokenizer")
        self.identity: Mapping[str, Any] = {name: signals.manifest.get(name) for name in named}

    def prepare(self, rows: Sequence[LearnedRow], folder: Path) -> dict[str, tuple[str, str]]:
        """Find the rows whose signals are missing, or are of other tokens."""
        found = {row.id: self._signals.obstacle(row.id, row.example) for row in rows}
        return {id: obstacle for id, obstacle in found.items() if obstacle}

    def signal(self, rows: Sequence[LearnedRow], batch: "Batch") -> "SparseLogProbs":
        """The signals of the rows.

        Raises:
            DataError: a row has none.
        """
        return self._signals.signal([row.id for row in rows], [row.example for row in rows])


def cached(
    config: Config, student_tokenizer: Any, device: "torch.device", *, signals: Path | None = None
) -> CachedTeacher:
    """Open the dataset `signals`.

    Raises:
        DataError: no such dataset, or of another tokenizer than the student's.
        ParamsError: none is named.
    """
    from trainers.teachers._token_signals import StoredSignals

    if signals is None:
        raise ParamsError("teacher_kind: cached reads a dataset of TokenSignals; name it with --signals")
    return CachedTeacher(StoredSignals(signals, student_tokenizer))
