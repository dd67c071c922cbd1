"""Difficulty-aligned matching (DATM): segments from the part of training that fits the set's size; learned soft labels.

Guo et al. Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching. 2023. arXiv:2310.05773,
section 3. Early epochs teach easy patterns, which few images can hold, late ones hard patterns, for many images: so a
segment starts in a window of epochs, whose end moves up while the set is learned. Images start as real ones that an
expert classifies rightly, soft labels as the experts' logits on them. Defaults are the authors' for CIFAR-10 at 10
images per class (https://github.com/NUS-HPC-AI-Lab/DATM), but for the optimiser (`condense.images._settings`).

Departures: as in trajectory_matching, the exact gradient and the logarithm of the step size; the mean over the
iterations, of FTD (arXiv:2211.11004), is taken of soft labels and step size as well as of pixels.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from condense.images import Learner, Task
from condense.images._settings import Matching

MAX_START_EPOCH = 20  # the authors' for CIFAR-10 at 10 images per class


class Config(Matching):
    """What DATM adds; see arXiv:2310.05773, sections 3 and 4.1.

    Attributes:
        min_start_epoch: T-; no segment starts earlier.
        first_max_start_epoch: T; segments start before it in the first iteration, and before T+ in any.
        expansion_iterations: during which the end of the window moves to T+, `max_start_epoch`.
        label_learning_rate: for the logits of the soft labels; 0 keeps those of the experts. The authors' is 2, by SGD
            with momentum 0.9, which optimizer=sgd gives; they take 100 for the pixels.
        max_loss: nothing is learned in an iteration whose loss is above it.
        average_decay: how much less an iteration weighs in the mean than the next one; 0 takes the last set alone.
    """

    method: Literal["difficulty_aligned"] = "difficulty_aligned"
    iterations: int = Field(10000, ge=1)
    student_steps: int = Field(80, ge=1)
    expert_epochs: int = Field(2, ge=1)
    min_start_epoch: int = Field(0, ge=0)
    first_max_start_epoch: int = Field(10, ge=1, validate_default=True)
    expansion_iterations: int = Field(1000, ge=1)
    label_learning_rate: float = Field(0.02, ge=0)
    max_loss: float = Field(1.0, gt=0)
    average_decay: float = Field(0.9995, ge=0, lt=1)

    @field_validator("first_max_start_epoch")
    @classmethod
    def _check_window(cls, value: int, info: ValidationInfo) -> int:
        start, end = info.data.get("min_start_epoch", 0), info.data.get("max_start_epoch")
        if value <= start:
            raise ValueError(f"must be above min_start_epoch={start}")
        if end is not None and value > end:
            raise ValueError(f"must not be above max_start_epoch={end}")
        return value


def difficulty_aligned(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`.

    Raises:
        ParamsError: there are no experts, or they ended too early for the window.
        DataError: the experts get too few images of a class right.
    """
    from condense.images._aligned import AlignedLearner, expert_logits, rightly_predicted
    from condense.images._learning import experts_of, last_start, real_images
    from datagen.contracts.errors import ParamsError

    experts = experts_of(task, config.method)
    last = last_start(experts, config.max_start_epoch, MAX_START_EPOCH, config.expert_epochs)
    if config.min_start_epoch >= last:
        raise ParamsError(
            f"min_start_epoch: must be below {last}, before which segments of these experts start "
            f"(got {config.min_start_epoch})"
        )
    pixels, labels = real_images(task, rightly_predicted(task, experts))
    return AlignedLearner(config, task, experts, last, pixels, labels, expert_logits(experts, pixels, labels))


def n_skipped(config: Config, losses: list[float]) -> int:
    """Iterations in which nothing was learned."""
    return sum(loss > config.max_loss for loss in losses)
