"""Difficulty-aligned matching (DATM): segments from the part of training that fits the set's size; learned soft labels.

Guo et al. Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching. 2023. arXiv:2310.05773,
section 3. Early epochs teach easy patterns, which few images can hold, late ones hard patterns, for many images: so a
segment starts in a window of epochs, whose end moves up while the set is learned. Images start as real ones that an
expert classifies rightly, soft labels as the experts' logits on them. Defaults are the authors' settings for CIFAR-10
at 10 images per class (https://github.com/NUS-HPC-AI-Lab/DATM).

Departures: as in trajectory_matching, the exact gradient and the logarithm of the step size; the mean over the
iterations, of FTD (arXiv:2211.11004), is taken of soft labels and step size as well as of pixels.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from condense.images import Learner, Task
from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params


class Config(Params):
    """See arXiv:2310.05773, sections 3 and 4.1.

    Attributes:
        iterations: updates of the condensed set.
        student_steps: N, steps of a student in an iteration.
        expert_epochs: M, epochs of the expert that the student's steps stand for.
        min_start_epoch: T-; no segment starts earlier.
        first_max_start_epoch: T; segments start before it in the first iteration.
        max_start_epoch: T+; segments start before it from `expansion_iterations` on.
        expansion_iterations: during which the end of the window moves.
        batch_size: condensed images a student's step; null for all.
        optimizer: of the condensed set: sgd with momentum 0.5, 0.9 for soft labels; or adam.
        image_learning_rate: for the pixels.
        label_learning_rate: for the logits of the soft labels; 0 keeps those of the experts.
        step_size: the students' learning rate at the start.
        step_size_learning_rate: for its logarithm; 0 keeps it.
        max_loss: nothing is learned in an iteration whose loss is above it.
        average_decay: how much less an iteration weighs in the mean than the next one; 0 takes the last set alone.
        gradient: adjoint (exact, constant memory), unrolled (exact, memory grows with N) or tesla (an approximation).
        augmentation: of the students' batches.
    """

    method: Literal["difficulty_aligned"] = "difficulty_aligned"
    iterations: int = Field(10000, ge=1)
    student_steps: int = Field(80, ge=1)
    expert_epochs: int = Field(2, ge=1)
    min_start_epoch: int = Field(0, ge=0)
    first_max_start_epoch: int = Field(10, ge=1, validate_default=True)
    max_start_epoch: int = Field(20, ge=1, validate_default=True)
    expansion_iterations: int = Field(1000, ge=1)
    batch_size: int | None = Field(None, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    image_learning_rate: float = Field(100.0, gt=0)
    label_learning_rate: float = Field(2.0, ge=0)
    step_size: float = Field(0.01, gt=0)
    step_size_learning_rate: float = Field(0.1, ge=0)
    max_loss: float = Field(1.0, gt=0)
    average_decay: float = Field(0.9995, ge=0, lt=1)
    gradient: Literal["adjoint", "unrolled", "tesla"] = "adjoint"
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"

    @field_validator("first_max_start_epoch")
    @classmethod
    def _check_first(cls, value: int, info: ValidationInfo) -> int:
        if value <= info.data.get("min_start_epoch", 0):
            raise ValueError(f"must be above min_start_epoch={info.data['min_start_epoch']}")
        return value

    @field_validator("max_start_epoch")
    @classmethod
    def _check_last(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("first_max_start_epoch", 1):
            raise ValueError(f"must not be below first_max_start_epoch={info.data['first_max_start_epoch']}")
        return value


def difficulty_aligned(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`.

    Raises:
        ParamsError: there are no experts, or they ended too early for the window.
        DataError: the experts get too few images of a class right.
    """
    from condense.images._aligned import AlignedLearner, expert_logits, rightly_predicted
    from condense.images._learning import check_window, experts_of, real_images

    experts = experts_of(task, config.method)
    check_window(experts, config.max_start_epoch - 1, config.expert_epochs, "max_start_epoch")
    pixels, labels = real_images(task, rightly_predicted(task, experts))
    return AlignedLearner(config, task, experts, pixels, labels, expert_logits(experts, pixels, labels))
