"""Several teachers at once: a weighted mean of their probabilities, or each for the rows that are its own.

Source: a mixture of experts' predictions, Jacobs, Jordan, Nowlan, Hinton. Adaptive mixtures of local experts. 1991,
with fixed weights; the ensemble as teacher is that of Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
Probabilities are mixed, not logits. A routed row is read by its own teacher alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from datagen.contracts.errors import DataError
from datagen.contracts.params import Params
from datagen.contracts.stage import load_method
from trainers.lm_rows import LearnedRow
from trainers.teachers import Teacher
from trainers.teachers._models import Dtype

if TYPE_CHECKING:
    import torch

    from trainers.batches import Batch
    from trainers.signals import Mixed


class Part(Params):
    """One of the teachers: its weight, or the value of `route_by` whose rows are its own."""

    teacher: str
    teacher_kind: Literal["online", "hidden"] = "online"
    teacher_dtype: Dtype = "float32"
    weight: float | None = Field(default=None, gt=0)
    route: str | None = None


class Config(Params):
    """The teachers. Weights are made to sum to 1; with `route_by`, a column of the data, each names its value instead.

    A column is `family`, `source`, `teacher`, `prompt_id`, or any other that the rows have.
    """

    teachers: tuple[Part, ...] = Field(min_length=1)
    route_by: str | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Config":
        routes = [part.route for part in self.teachers]
        if self.route_by is None and any(part.weight is None or part.route is not None for part in self.teachers):
            raise ValueError("each of the teachers needs its weight, and no route unless route_by names a column")
        if self.route_by and (None in routes or len(set(routes)) < len(routes) or any(p.weight for p in self.teachers)):
            raise ValueError("with route_by each of the teachers needs a route of its own, and no weight")
        return self


class MixedTeacher:
    """A `trainers.teachers.Teacher`."""

    def __init__(self, config: Config, teachers: Sequence[Teacher]) -> None:
        """Mix `teachers`, one for each of the config's."""
        self._config, self._teachers = config, teachers
        self._routes = [part.route for part in config.teachers]
        parts = zip(config.teachers, teachers, strict=True)
        self.identity: Mapping[str, Any] = {
            "route_by": config.route_by,
            "teachers": [{**one.identity, "weight": part.weight, "route": part.route} for part, one in parts],
        }
        self.context = min(teacher.context for teacher in teachers)

    def prepare(self, rows: Sequence[LearnedRow], folder: Path) -> dict[str, tuple[str, str]]:
        """What each of them needs; a row whose value names no teacher has no signal."""
        missing: dict[str, tuple[str, str]] = {}
        for row in rows:
            if self._config.route_by and (value := column(row, self._config.route_by)) not in self._routes:
                detail = (
                    f"{self._config.route_by} is {value!r}, and the teachers are of {', '.join(map(str, self._routes))}"
                )
                missing[row.id] = ("no_teacher", detail)
        usable = [row for row in rows if row.id not in missing]
        for number, teacher in enumerate(self._teachers):
            missing |= teacher.prepare([row for row in usable if self._is_of(row, number)], folder)
        return missing

    def signal(self, rows: Sequence[LearnedRow], batch: "Batch") -> "Mixed":
        """All teachers' hidden states; a row that is another teacher's has zeros for its own, at weight 0."""
        import torch

        from trainers.batches import collate
        from trainers.signals import HiddenStates, Mixed

        counts = torch.tensor([row.example.n_completion_tokens for row in rows])
        signals: list[HiddenStates] = []
        shares = torch.zeros(len(self._teachers), len(rows), dtype=torch.float64)
        for number, teacher in enumerate(self._teachers):
            is_mine = torch.tensor([self._is_of(row, number) for row in rows])
            mine = [row for row, own in zip(rows, is_mine.tolist(), strict=True) if own]
            shares[number] = is_mine * (self._config.teachers[number].weight or 1.0)
            if not mine:
                continue
            here = batch if len(mine) == len(rows) else collate([row.example for row in mine])
            found = teacher.signal(mine, here)
            assert isinstance(found, HiddenStates)
            tokens = is_mine.repeat_interleave(counts).to(found.hidden.device)
            hidden = found.hidden.new_zeros(len(tokens), found.hidden.shape[1])
            hidden[tokens] = found.hidden
            signals.append(HiddenStates(hidden, found.weight, found.bias, found.vocabulary))
        shares = shares[shares.sum(dim=1) > 0]
        weights = (shares / shares.sum(dim=0)).T.repeat_interleave(counts, dim=0)
        return Mixed(signals, weights)

    def _is_of(self, row: LearnedRow, number: int) -> bool:
        return self._config.route_by is None or column(row, self._config.route_by) == self._routes[number]


def mixture(config: Config, student_tokenizer: Any, device: "torch.device") -> MixedTeacher:
    """Load the teachers.

    Raises:
        DataError: one has another tokenizer than the student.
        MissingError: one is not there, or its logits are scaled or capped.
    """
    teachers: list[Teacher] = []
    for part in config.teachers:
        module = load_method("trainers.teachers", part.teacher_kind, key="teacher_kind")
        own = module.Config(teacher=part.teacher, teacher_dtype=part.teacher_dtype)
        teachers.append(getattr(module, part.teacher_kind)(own, student_tokenizer, device))
    return MixedTeacher(config, teachers)


def column(row: LearnedRow, name: str) -> str | None:
    """The value of a column of the data: one of the trace, of its prompt, or of what else the user's row held.

    Raises:
        DataError: the row has no such column.
    """
    trace = row.trace
    info = json.loads(trace.prompt.info) if trace.prompt.info else {}
    for holder in (trace, trace.prompt):
        if name in holder.SCHEMA and hasattr(holder, name):
            return str(value) if (value := getattr(holder, name)) is not None else None
    if name == "prompt_id":
        return trace.prompt.id
    if name not in info:
        raise DataError(f"row {row.id!r} has no column {name!r}, which route_by names")
    return str(info[name])
