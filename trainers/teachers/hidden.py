"""Hidden states computed once: the teacher reads each row before training, and each epoch costs its head alone.

Source: none; the states are the online teacher's, row by row in a fixed order, so that no batch changes what another
run reads. They lie in a file without a name, which the system removes when the process ends; of several processes each
has its own.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.contracts.params import Params
from trainers.lm_rows import LearnedRow
from trainers.teachers._models import Dtype, check_tokenizer, context_of, load_frozen, load_tokenizer

if TYPE_CHECKING:
    import torch

    from trainers.batches import Batch
    from trainers.signals import HiddenStates

log = logging.getLogger(__name__)


class Config(Params):
    """The teacher by name, folder or hub name, the type that it computes in, and how much disk its states may take.

    A token takes as many numbers of `teacher_dtype` as the teacher is wide.
    """

    teacher: str
    teacher_dtype: Dtype = Field(default="float32")
    max_states_gb: float = Field(default=10.0, gt=0)


class HiddenTeacher:
    """A `trainers.teachers.Teacher`."""

    def __init__(self, model: Any, identity: Mapping[str, Any], max_bytes: float) -> None:
        """Wrap a frozen model, which is let go of, but for its head, after `prepare`."""
        self._model = model
        self.identity = identity
        self.context = context_of(model.config)
        self._max_bytes = max_bytes
        self._places: dict[str, slice] = {}
        self._rows: dict[str, list[int]] = {}

    def prepare(self, rows: Sequence[LearnedRow], folder: Path) -> dict[str, tuple[str, str]]:
        """Compute all states.

        Raises:
            ParamsError: they take more than the bound.
        """
        import torch

        from datagen.contracts.errors import ParamsError
        from trainers.batches import collate
        from trainers.language_models import head_of, hidden_states

        self._head = head_of(self._model)
        width, dtype = self._head.weight.shape[1], self._model.dtype
        n_tokens = sum(row.example.n_completion_tokens for row in rows)
        n_bytes = n_tokens * width * dtype.itemsize
        if n_bytes > self._max_bytes:
            raise ParamsError(
                f"max_states_gb: the states of {n_tokens} tokens take {n_bytes / 1e9:.3g} GB, the bound is "
                f"{self._max_bytes / 1e9:g}; raise it, set teacher_dtype=bfloat16, or take teacher_kind=online"
            )
        log.info("computes hidden states of %d rows, %d tokens, %.1f MB", len(rows), n_tokens, n_bytes / 1e6)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".states-") as file:
            file.truncate(max(n_bytes, dtype.itemsize))
            self._states = torch.from_file(file.name, shared=True, size=max(n_tokens * width, 1), dtype=dtype)
        self._states = self._states[: n_tokens * width].view(n_tokens, width)
        start = 0
        for row in rows:
            place = slice(start, start + row.example.n_completion_tokens)
            with torch.no_grad():
                batch = collate([row.example]).to(self._model.device)
                self._states[place] = hidden_states(self._model, batch).cpu()
            self._places[row.id], self._rows[row.id] = place, row.example.tokens
            start = place.stop
        del self._model
        return {}

    def signal(self, rows: Sequence[LearnedRow], batch: "Batch") -> "HiddenStates":
        """The stored states of the rows.

        Raises:
            DataError: a row was not there, or of other tokens, when the states were computed.
        """
        import torch

        from datagen.contracts.errors import DataError
        from trainers.signals import HiddenStates

        for row in rows:
            if self._rows.get(row.id) != row.example.tokens:
                raise DataError(f"row {row.id!r} has no hidden states: it was not there before training; take online")
        hidden = torch.cat([self._states[self._places[row.id]] for row in rows])
        return HiddenStates(hidden.to(self._head.weight.device), *self._head)


def hidden(config: Config, student_tokenizer: Any, device: "torch.device") -> HiddenTeacher:
    """Load the teacher, whose head stays on `device`.

    Raises:
        DataError: it has another tokenizer than the student.
        MissingError: it is not there, or its logits are scaled or capped.
    """
    found, tokenizer = load_tokenizer(config.teacher)
    check_tokenizer(config.teacher, tokenizer, student_tokenizer)
    model = load_frozen(config.teacher, config.teacher_dtype, device)
    identity = {"model": found.name, "revision": found.revision, "dtype": config.teacher_dtype}
    return HiddenTeacher(model, identity, config.max_states_gb * 1e9)
