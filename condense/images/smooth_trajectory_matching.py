"""Trajectory matching of smooth experts (AST): what it adds to MTT on the condensed set's side.

arXiv:2310.10541 (2023); where it is silent, its code, https://github.com/shenjiyuan123/AST-Alignment-with-Smooth-Expert.
The experts' side, the loss ramp and the gradient penalty, is `condense.experts.smooth`. Here:

representative initialisation   the images nearest the centres of k-means on an expert's logits, by class
inner momentum                  of the students, in the code alone
balanced inner loss             cross-entropy times log5(t - h + 8) for a start t from h = T+ // 2 on, else over
                                log5(h - t + 8), so that late segments weigh more; it jumps at h, as the code's does
intermediate matching           the student is also held to the expert's epochs on the way
weight perturbation             the student starts beside the expert, at theta + a d theta, with d standard normal over
                                its norm, for weights of convolutions alone

With `initial` at_random, `inner_momentum` 0, `balanced_loss` false, `intermediate` none and `perturbation` 0 it is
trajectory_matching, bit for bit.

Departures: the initialisation takes as many centres as images are wanted (the code takes ten, and none below that); the
distance by which the losses are divided is from the perturbed start, as in the code.
"""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from condense.images import Learner, Task
from condense.images._settings import Matching

if TYPE_CHECKING:
    from torch import Tensor

    from condense.images._learning import Plan, Segment
    from condense.nets.flat import FlatNet

_LOG_SHIFT = 8  # of the code
_LOG_BASE = 5
N_RESTARTS = 10  # of k-means
MAX_START_EPOCH = 20  # the authors' for CIFAR-10


class Config(Matching):
    """What AST adds; other defaults are its authors' for CIFAR-10 at 10 images per class.

    Attributes:
        initial: images to start from: representative, or drawn at_random.
        inner_momentum: of the students' SGD.
        balanced_loss: whether late segments weigh more.
        intermediate: weight of the i-th of M epochs on the way: 1, growing as i / M, or none.
        perturbation: a, of the start; 0 for none.
    """

    method: Literal["smooth_trajectory_matching"] = "smooth_trajectory_matching"
    student_steps: int = Field(30, ge=1)
    expert_epochs: int = Field(2, ge=1)
    initial: Literal["representative", "at_random"] = "representative"
    inner_momentum: float = Field(0.9, ge=0, lt=1)
    balanced_loss: bool = True
    intermediate: Literal["equal", "growing", "none"] = "equal"
    perturbation: float = Field(1.0, ge=0)


def smooth_trajectory_matching(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`."""
    from condense.images._learning import Plan, at_random, experts_of, follow, last_start, target
    from datagen.contracts.seeding import derive_seed

    experts = experts_of(task, config.method)
    n_steps, n_epochs = config.student_steps, config.expert_epochs
    last = last_start(experts, config.max_start_epoch, MAX_START_EPOCH, n_epochs)
    weights = [*intermediate_weights(config.intermediate, n_epochs), 1.0]

    def plan(segment: "Segment", seed: int) -> "Plan":
        start = segment.start
        if config.perturbation:
            start = perturbed(start, experts.net, config.perturbation, derive_seed(seed, "perturbation"))
        targets = [
            target(experts, segment, start, epoch, step, weight)
            for epoch, weight in enumerate(weights, start=1)
            if weight and (step := n_steps if epoch == n_epochs else n_steps // n_epochs * epoch)
        ]
        scale = balance(segment.epoch, last) if config.balanced_loss else 1.0
        return Plan(start, targets, scale, config.inner_momentum)

    places = representative(task) if config.initial == "representative" else at_random(task)
    return follow(config, task, experts, places, last, plan)


def representative(task: Task) -> list[int]:
    """Positions of `images_per_class` images of each class, class by class: nearest the centres of its logits."""
    import numpy as np

    from condense.coresets import Candidates, k_means
    from condense.embedding import logits
    from condense.images._learning import experts_of

    experts = experts_of(task, "initial=representative")
    features = logits(experts, task.images, 0, experts.n_epochs).cpu().numpy().astype(np.float64)
    candidates = Candidates(features=features, labels=task.labels.cpu().numpy())
    sizes = [task.images_per_class] * task.n_classes
    return k_means.k_means(k_means.Config(n_restarts=N_RESTARTS), candidates, sizes, seed=task.seed).tolist()


def balance(epoch: int, max_start_epoch: int) -> float:
    """What the inner loss of a segment is multiplied by, above 0."""
    half = max_start_epoch // 2
    if epoch >= half:
        return math.log(epoch - half + _LOG_SHIFT, _LOG_BASE)
    return 1 / math.log(half - epoch + _LOG_SHIFT, _LOG_BASE)


def intermediate_weights(kind: Literal["equal", "growing", "none"], n_epochs: int) -> list[float]:
    """Weights of the epochs 1 to M - 1."""
    match kind:
        case "equal":
            return [1.0] * (n_epochs - 1)
        case "growing":
            return [i / n_epochs for i in range(1, n_epochs)]
        case "none":
            return [0.0] * (n_epochs - 1)


def perturbed(theta: "Tensor", net: "FlatNet", size: float, seed: int) -> "Tensor":
    """(P,) parameters beside `theta`; only tensors of four axes move, each by `size` times a direction of norm 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    moved: list[Tensor] = []
    for part in net.parts(theta).values():
        if part.dim() == 4:
            direction = torch.randn(part.shape, generator=generator).to(theta)
            part = part + size * direction / direction.norm() * part
        moved.append(part.reshape(-1))
    return torch.cat(moved)
