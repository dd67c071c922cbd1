"""Difficulty-aligned matching at work: where a segment may start, what the experts say, what is learned and averaged.

Guo et al. Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching. 2023. arXiv:2310.05773.

Axes: M condensed images, K classes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from condense.embedding import logits
from condense.images import Learned, Task
from condense.images._learning import Variables, draw_batches, draw_segment, inner_loss, target
from condense.images._matching import MATCHINGS
from condense.trajectories import Trajectories
from datagen.contracts.errors import DataError
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    from condense.images.difficulty_aligned import Config

LABEL_MOMENTUM = 0.9  # of the authors' settings


def window(config: "Config", last: int, iteration: int) -> range:
    """Epochs where a segment may start, before `last`: the end moves evenly until `expansion_iterations`."""
    first = min(config.first_max_start_epoch, last)
    share = min(1.0, iteration / config.expansion_iterations)
    return range(config.min_start_epoch, first + int((last - first) * share))


def rightly_predicted(task: Task, experts: Trajectories) -> list[int]:
    """Positions of `images_per_class` images of each class that an expert classifies rightly after its last epoch.

    Images are drawn at random among those that the first expert gets right; where these are too few, the second is
    asked about the others, and so on.

    Raises:
        DataError: all experts together get too few right.
    """
    labels = task.labels.cpu()
    wanted, chosen = task.images_per_class, [list[int]() for _ in range(task.n_classes)]
    orders = [
        torch.randperm(
            int((labels == label).sum()),
            generator=torch.Generator().manual_seed(derive_seed(task.seed, "initial", label)),
        )
        for label in range(task.n_classes)
    ]
    for expert in range(len(experts)):
        if all(len(one) == wanted for one in chosen):
            break
        right = logits(experts, task.images, expert, experts.n_epochs).argmax(1).cpu() == labels
        for label, order in enumerate(orders):
            members = torch.nonzero(labels == label)[:, 0][order]
            new = [one for one in members[right[members]].tolist() if one not in chosen[label]]
            chosen[label] += new[: wanted - len(chosen[label])]
    for label, one in enumerate(chosen):
        if len(one) < wanted:
            raise DataError(
                f"{experts.path}: its experts get {len(one)} images of class {label} right, {wanted} are needed to "
                "start from; train them longer, or lower images_per_class"
            )
    return [position for one in chosen for position in one]


def expert_logits(experts: Trajectories, images: Tensor, labels: Tensor) -> Tensor:
    """(M, K): for each image the mean of the logits of those experts that classify it rightly, section 3.4.

    Args:
        experts: at least one of whom gets each image right.
        images: (M, C, H, W).
        labels: (M,).
    """
    every = torch.stack([logits(experts, images, expert, experts.n_epochs) for expert in range(len(experts))])
    right = (every.argmax(2) == labels)[:, :, None]
    return (every * right).sum(0) / right.sum(0)


class AlignedLearner:
    """A `Learner` of pixels, soft labels and step size; its result is their mean over the iterations, later ones first.

    The mean is that of FTD (arXiv:2211.11004): each iteration weighs `average_decay` times as much as the next one. It
    is divided by the sum of the weights, so that it is no mean with the images of the start.
    """

    def __init__(
        self, config: "Config", task: Task, experts: Trajectories, last: int, pixels: Tensor, labels: Tensor,
        soft_labels: Tensor,
    ) -> None:  # fmt: skip
        """Starts from `pixels` (M, C, H, W) of classes `labels` (M,), with logits `soft_labels` (M, K).

        Segments start before epoch `last`, T+.
        """
        self._last = last
        self.n_iterations = config.iterations
        self._config, self._task, self._experts, self._labels = config, task, experts, labels
        self._variables = Variables(
            {
                "pixels": pixels,
                "soft_labels": soft_labels,
                "log_step_size": torch.tensor(config.step_size, device=pixels.device).log(),
            },
            {
                "pixels": config.image_learning_rate,
                "soft_labels": config.label_learning_rate,
                "log_step_size": config.step_size_learning_rate,
            },
            config.optimizer,
            {"soft_labels": LABEL_MOMENTUM},
        )
        self._sums = {name: torch.zeros_like(one) for name, one in self._variables.tensors.items()}
        self._weight = 0.0

    def step(self, iteration: int) -> float:
        """See `condense.images.Learner`; above `max_loss` nothing is learned."""
        config, variables = self._config, self._variables
        device, n_steps = self._task.images.device, config.student_steps
        segment = draw_segment(self._experts, self._task.seed, iteration, window(config, self._last, iteration), device)
        seed = derive_seed(self._task.seed, "iteration", iteration)
        batches = draw_batches(len(self._labels), config.batch_size, n_steps, seed)
        loss = inner_loss(self._experts.net, None, batches, config.augmentation, seed)
        wanted = [target(self._experts, segment, segment.start, config.expert_epochs, n_steps)]
        data, step_size = (variables["pixels"], variables["soft_labels"]), variables.step_size
        found = MATCHINGS[config.gradient](loss, segment.start, data, step_size, n_steps, wanted, 0.0)
        if found.loss <= config.max_loss:
            variables.update(
                {
                    "pixels": found.data[0],
                    "soft_labels": found.data[1],
                    "log_step_size": found.step_size * step_size,
                }
            )
        for name, total in self._sums.items():
            total.mul_(config.average_decay).add_(variables[name], alpha=1 - config.average_decay)
        self._weight = config.average_decay * self._weight + 1 - config.average_decay
        return float(found.loss)

    def result(self) -> Learned:
        """See `condense.images.Learner`."""
        mean = {
            name: total / self._weight if self._weight else self._variables[name].clone()
            for name, total in self._sums.items()
        }
        return Learned(
            pixels=mean["pixels"],
            labels=self._labels,
            soft_labels=mean["soft_labels"],
            step_size=float(mean["log_step_size"].exp()),
        )

    def state_dict(self) -> dict[str, Any]:
        """See `condense.images.Learner`."""
        return {"variables": self._variables.state_dict(), "sums": self._sums, "weight": self._weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `condense.images.Learner`."""
        self._variables.load_state_dict(state["variables"])
        for name, total in self._sums.items():
            total.copy_(state["sums"][name])
        self._weight = state["weight"]
