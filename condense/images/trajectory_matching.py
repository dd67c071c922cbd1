"""Trajectory matching (MTT): students of the condensed set go where experts on the whole set went.

Cazenavette et al. Dataset Distillation by Matching Training Trajectories. 2022. arXiv:2203.11932, algorithm 1. Its
authors' code is https://github.com/GeorgeCazenavette/mtt-distillation.

Departures: the gradient is exact in constant memory (`condense.images._matching`); the step size is learned as its
logarithm, so that it cannot become negative; a rate of theirs over the square of the step size moves it as theirs does.
The optimiser is Adam unless params say sgd (`condense.images._settings`).
"""

from typing import TYPE_CHECKING, Literal

from condense.images import Learner, Task
from condense.images._settings import Matching

if TYPE_CHECKING:
    from condense.images._learning import Plan, Segment

MAX_START_EPOCH = 25  # the authors' for CIFAR-10


class Config(Matching):
    """As `condense.images._settings` says."""

    method: Literal["trajectory_matching"] = "trajectory_matching"


def trajectory_matching(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`; starts from real images drawn at random."""
    from condense.images._learning import Plan, at_random, experts_of, follow, last_start, target

    experts = experts_of(task, config.method)
    last = last_start(experts, config.max_start_epoch, MAX_START_EPOCH, config.expert_epochs)

    def plan(segment: "Segment", _seed: int) -> "Plan":
        return Plan(
            segment.start, [target(experts, segment, segment.start, config.expert_epochs, config.student_steps)]
        )

    return follow(config, task, experts, at_random(task), last, plan)
