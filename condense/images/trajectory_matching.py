"""Trajectory matching (MTT): students of the condensed set go where experts on the whole set went.

Cazenavette et al. Dataset Distillation by Matching Training Trajectories. 2022. arXiv:2203.11932, algorithm 1. Defaults
are the authors' command line for CIFAR-10 (https://github.com/GeorgeCazenavette/mtt-distillation).

Departures: the gradient is exact in constant memory (`condense.images._matching`); the step size is learned as its
logarithm, so that it cannot become negative, with a rate that moves it as theirs does at the default start: theirs
over the square of the step size.
"""

from typing import Any, Literal

from pydantic import Field

from condense.images import Learner, Task
from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params


class Config(Params):
    """See arXiv:2203.11932, section 3.

    Attributes:
        iterations: updates of the condensed set.
        student_steps: N, steps of a student in an iteration.
        expert_epochs: M, epochs of the expert that the student's steps stand for.
        max_start_epoch: T+; a segment starts before it.
        batch_size: condensed images a student's step; null for all.
        optimizer: of the condensed set: sgd with momentum 0.5, or adam.
        image_learning_rate: for the pixels.
        step_size: the students' learning rate at the start.
        step_size_learning_rate: for its logarithm; 0 keeps it.
        gradient: adjoint (exact, constant memory), unrolled (exact, memory grows with N) or tesla (an approximation).
        augmentation: of the students' batches.
    """

    method: Literal["trajectory_matching"] = "trajectory_matching"
    iterations: int = Field(5000, ge=1)
    student_steps: int = Field(20, ge=1)
    expert_epochs: int = Field(3, ge=1)
    max_start_epoch: int = Field(25, ge=1)
    batch_size: int | None = Field(None, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    image_learning_rate: float = Field(1000.0, gt=0)
    step_size: float = Field(0.01, gt=0)
    step_size_learning_rate: float = Field(0.1, ge=0)
    gradient: Literal["adjoint", "unrolled", "tesla"] = "adjoint"
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"


def trajectory_matching(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`; starts from real images drawn at random."""
    from condense.images._learning import (
        MatchingLearner,
        Variables,
        at_random,
        check_window,
        draw_batches,
        draw_segment,
        experts_of,
        inner_loss,
        log,
        real_images,
    )
    from condense.images._matching import MATCHINGS, Target
    from datagen.contracts.seeding import derive_seed

    experts = experts_of(task, config.method)
    check_window(experts, config.max_start_epoch - 1, config.expert_epochs, "max_start_epoch")
    device, n_steps = task.images.device, config.student_steps
    pixels, labels = real_images(task, at_random(task))
    variables = Variables(
        {"pixels": pixels, "log_step_size": log(config.step_size, device)},
        {"pixels": config.image_learning_rate, "log_step_size": config.step_size_learning_rate},
        config.optimizer,
    )

    def gradients(iteration: int) -> tuple[Any, dict[str, Any]]:
        segment = draw_segment(experts, task.seed, iteration, range(config.max_start_epoch), device)
        end = experts.at(segment.expert, segment.epoch + config.expert_epochs).to(device)
        seed = derive_seed(task.seed, "iteration", iteration)
        loss = inner_loss(
            experts.net, labels, draw_batches(len(labels), config.batch_size, n_steps, seed), config.augmentation, seed
        )
        target = Target(n_steps, end, (segment.start - end).square().sum())
        step_size = variables.step_size
        found = MATCHINGS[config.gradient](
            loss, segment.start, (variables["pixels"],), step_size, n_steps, [target], 0.0
        )  # fmt: skip
        return found.loss, {"pixels": found.data[0], "log_step_size": found.step_size * step_size}

    return MatchingLearner(variables, labels, config.iterations, gradients)
