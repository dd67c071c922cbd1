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
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from condense.images import Learner, Task
from condense.pixels.strategy import Strategy
from datagen.contracts.params import Params

if TYPE_CHECKING:
    from torch import Tensor

    from condense.nets.flat import FlatNet

_LOG_SHIFT = 8  # of the code
_LOG_BASE = 5
N_RESTARTS = 10  # of k-means


class Config(Params):
    """As trajectory_matching's, and what AST adds; defaults are the authors' for CIFAR-10 at 10 images per class.

    Attributes:
        initial: images to start from: representative, or drawn at_random.
        inner_momentum: of the students' SGD.
        balanced_loss: whether late segments weigh more.
        intermediate: weight of the i-th of M epochs on the way: 1, growing as i / M, or none.
        perturbation: a, of the start; 0 for none.
    """

    method: Literal["smooth_trajectory_matching"] = "smooth_trajectory_matching"
    iterations: int = Field(5000, ge=1)
    student_steps: int = Field(30, ge=1)
    expert_epochs: int = Field(2, ge=1)
    max_start_epoch: int = Field(20, ge=1)
    batch_size: int | None = Field(None, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    image_learning_rate: float = Field(1000.0, gt=0)
    step_size: float = Field(0.01, gt=0)
    step_size_learning_rate: float = Field(0.1, ge=0)
    gradient: Literal["adjoint", "unrolled", "tesla"] = "adjoint"
    augmentation: Strategy = "color_crop_cutout_flip_scale_rotate"
    initial: Literal["representative", "at_random"] = "representative"
    inner_momentum: float = Field(0.9, ge=0, lt=1)
    balanced_loss: bool = True
    intermediate: Literal["equal", "growing", "none"] = "equal"
    perturbation: float = Field(1.0, ge=0)


def smooth_trajectory_matching(config: Config, task: Task) -> Learner:
    """See `condense.images.ImagesMethod`."""
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
    device, n_steps, n_epochs = task.images.device, config.student_steps, config.expert_epochs
    places = representative(task) if config.initial == "representative" else at_random(task)
    pixels, labels = real_images(task, places)
    variables = Variables(
        {"pixels": pixels, "log_step_size": log(config.step_size, device)},
        {"pixels": config.image_learning_rate, "log_step_size": config.step_size_learning_rate},
        config.optimizer,
    )
    weights = intermediate_weights(config.intermediate, n_epochs)

    def gradients(iteration: int) -> tuple[Any, dict[str, Any]]:
        segment = draw_segment(experts, task.seed, iteration, range(config.max_start_epoch), device)
        seed = derive_seed(task.seed, "iteration", iteration)
        scale = balance(segment.epoch, config.max_start_epoch) if config.balanced_loss else 1.0
        batches = draw_batches(len(labels), config.batch_size, n_steps, seed)
        loss = inner_loss(experts.net, labels, batches, config.augmentation, seed, scale)
        start = segment.start
        if config.perturbation:
            start = perturbed(start, experts.net, config.perturbation, derive_seed(seed, "perturbation"))
        targets: list[Target] = []
        for i in range(1, n_epochs + 1):
            step, weight = (n_steps, 1.0) if i == n_epochs else (n_steps // n_epochs * i, weights[i - 1])
            if weight and step:
                end = experts.at(segment.expert, segment.epoch + i).to(device)
                targets.append(Target(step, end, (start - end).square().sum(), weight))
        step_size = variables.step_size
        found = MATCHINGS[config.gradient](
            loss, start, (variables["pixels"],), step_size, n_steps, targets, config.inner_momentum
        )  # fmt: skip
        return found.loss, {"pixels": found.data[0], "log_step_size": found.step_size * step_size}

    return MatchingLearner(variables, labels, config.iterations, gradients)


def representative(task: Task) -> list[int]:
    """Positions of `images_per_class` images of each class, class by class: nearest the centres of its logits."""
    import numpy as np

    from condense.coresets import Candidates, k_means
    from condense.embedding import logits
    from condense.images._learning import experts_of

    experts = experts_of(task, "initial=representative")
    features = logits(experts, task.images.cpu().numpy(), 0, experts.n_epochs).astype(np.float64)
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
