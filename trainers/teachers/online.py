"""The online teacher: a frozen model that reads every batch beside the student.

Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531, section 2. Where the paper
is silent: the teacher gives its last hidden states and its head, so that its logits, too, exist for a few tokens at a
time only.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params
from trainers.lm_rows import LearnedRow
from trainers.teachers._models import Dtype, check_tokenizer, context_of, load_frozen, load_tokenizer

if TYPE_CHECKING:
    import torch

    from trainers.batches import Batch
    from trainers.signals import HiddenStates


class Config(Params):
    """The teacher by name, folder or hub name, and the type that it computes in.

    $DATASTILL_TEACHER_DEVICE names a device of its own, such as `cuda:1`; by default it shares the student's.
    """

    teacher: str
    teacher_dtype: Dtype = Field(default="float32")


class OnlineTeacher:
    """A `trainers.teachers.Teacher`."""

    def __init__(self, model: Any, identity: Mapping[str, Any]) -> None:
        """Wrap a frozen model."""
        self._model = model
        self.identity = identity
        self.context = context_of(model.config)
        self._may_pack = False

    def prepare(self, rows: Sequence[LearnedRow], folder: Path) -> dict[str, tuple[str, str]]:
        """Nothing: it can read whatever the student reads."""
        return {}

    def signal(self, rows: Sequence[LearnedRow], batch: "Batch") -> "HiddenStates":
        """Last hidden states and head.

        Raises:
            MissingError: the batch is packed, and the model does not keep sequences apart.
        """
        import torch

        from trainers.batches import check_packing
        from trainers.language_models import head_of, hidden_states
        from trainers.signals import HiddenStates

        if batch.position_ids is not None and not self._may_pack:
            check_packing(self._model, self._model.get_input_embeddings().weight.shape[0])
            self._may_pack = True
        with torch.no_grad(), torch.autocast(self._model.device.type, enabled=False):
            hidden = hidden_states(self._model, batch.to(self._model.device), shares_prompts=True)
        return HiddenStates(hidden, *head_of(self._model))


def online(config: Config, student_tokenizer: Any, device: "torch.device") -> OnlineTeacher:
    """Load the teacher.

    Raises:
        DataError: it has another tokenizer than the student.
        MissingError: it is not there, or its logits are scaled or capped.
        ParamsError: $DATASTILL_TEACHER_DEVICE names no device.
    """
    found, tokenizer = load_tokenizer(config.teacher)
    check_tokenizer(config.teacher, tokenizer, student_tokenizer)
    model = load_frozen(config.teacher, config.teacher_dtype, teacher_device(device))
    identity = {"model": found.name, "revision": found.revision, "dtype": config.teacher_dtype}
    return OnlineTeacher(model, identity)


def teacher_device(device: "torch.device") -> "torch.device":
    """`$DATASTILL_TEACHER_DEVICE`, by default the student's.

    Raises:
        ParamsError: torch knows no such device.
    """
    import torch

    if not (named := os.environ.get("DATASTILL_TEACHER_DEVICE")):
        return device
    try:
        return torch.empty(0, device=torch.device(named)).device
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        raise ParamsError(f"$DATASTILL_TEACHER_DEVICE={named}: {str(error).splitlines()[0]}") from None
