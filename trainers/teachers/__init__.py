"""Where a student's signal comes from: one file each, one function named like its file.

cached           datasets of TokenSignals, written once by `datastill teacher_signals`
hidden           a teacher's last hidden states, computed once before training, and its head
mixture          several teachers by weight, or each for the rows that a column gives it
online           a frozen teacher that reads every batch beside the student
other_tokenizer  how likely pieces of a text are to a teacher of another tokenizer
server           prompt log-probs of a vLLM server: the likeliest tokens and the mass of all others

A method's Config has the teacher's parameters and imports no torch. All but the objective `likelihood_matching` need a
teacher whose tokenizer is the student's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from trainers.batches import Batch
    from trainers.lm_rows import LearnedRow
    from trainers.signals import Signal


class Teacher(Protocol):
    """What a method returns."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which teacher, for the manifest."""
        ...

    @property
    def context(self) -> int:
        """Positions that it has: no sequence may be longer."""
        ...

    def prepare(self, rows: "Sequence[LearnedRow]", folder: Path) -> dict[str, tuple[str, str]]:
        """Once before training: what must be asked or computed beforehand, and what cannot be given.

        Args:
            rows: that training has.
            folder: on whose disk what is large may lie.

        Returns:
            Id of each row that has no signal, to (reason, detail).
        """
        ...

    def signal(self, rows: "Sequence[LearnedRow]", batch: "Batch") -> "Signal":
        """The signal of the tokens that a batch learns, as in `batch.labels`; `rows` are what it was made of."""
        ...


class TeacherMethod(Protocol):
    """The function that a method's module is named after."""

    def __call__(self, config: Any, student_tokenizer: Any, device: "torch.device") -> Teacher:
        """Open the teacher; `config` is the module's own Config, Any as each method has its own.

        Raises:
            DataError: it has another tokenizer than the student.
            MissingError: it is not there.
        """
        ...
