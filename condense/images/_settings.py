"""Parameters that the methods of trajectory matching have in common, readable without torch."""

from typing import Literal

from pydantic import Field

from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params


class Matching(Params):
    """See arXiv:2203.11932, section 3; defaults are its authors' command line for CIFAR-10, unless a method says other.

    But for the optimiser: Adam's steps are of the pixels' own size whatever the images and experts. The authors' is
    `optimizer=sgd image_learning_rate=1000 step_size_learning_rate=0.1`, made for whitened images of 32 x 32.

    Attributes:
        iterations: updates of the condensed set.
        student_steps: N, steps of a student in an iteration.
        expert_epochs: M, epochs of the expert that the student's steps stand for.
        max_start_epoch: T+; a segment starts before it. By default the paper's, or as far as the experts go.
        batch_size: condensed images a student's step; null for all.
        optimizer: of the condensed set: adam, or sgd with momentum 0.5.
        image_learning_rate: for the pixels.
        step_size: the students' learning rate at the start.
        step_size_learning_rate: for its logarithm; 0 keeps it.
        gradient: adjoint (exact, constant memory), unrolled (exact, memory grows with N) or tesla (an approximation).
        augmentation: of the students' batches.
    """

    iterations: int = Field(5000, ge=1)
    student_steps: int = Field(20, ge=1)
    expert_epochs: int = Field(3, ge=1)
    max_start_epoch: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    optimizer: Literal["sgd", "adam"] = "adam"
    image_learning_rate: float = Field(0.1, gt=0)
    step_size: float = Field(0.01, gt=0)
    step_size_learning_rate: float = Field(0.02, ge=0)
    gradient: Literal["adjoint", "unrolled", "tesla"] = "adjoint"
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"
