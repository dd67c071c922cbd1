"""What the trajectory matching methods share: segments of experts, batches of the inner steps, the learned tensors.

Source: none; each function says in which paper's algorithm its step stands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from condense.images import Learned, Task
from condense.images._matching import MATCHINGS, Data, StepLoss, Target
from condense.images._settings import Matching
from condense.nets.flat import FlatNet
from condense.pixels.augmentation import augment
from condense.trajectories import Trajectories
from datagen.contracts.errors import ParamsError
from datagen.contracts.seeding import derive_seed


@dataclass(frozen=True)
class Segment:
    """A piece of an expert's training: its number, the epoch where the student starts, that epoch's parameters (P,)."""

    expert: int
    epoch: int
    start: Tensor


def draw_segment(trajectories: Trajectories, seed: int, iteration: int, epochs: range, device: Any) -> Segment:
    """Algorithm 1 of arXiv:2203.11932, lines 4 and 5: an expert, each once before one comes again, and an epoch."""
    n = len(trajectories)
    lap, place = divmod(iteration, n)
    expert = int(torch.randperm(n, generator=_generator(seed, "experts", lap))[place])
    epoch = epochs[int(torch.randint(len(epochs), (1,), generator=_generator(seed, "epoch", iteration)))]
    return Segment(expert, epoch, trajectories.at(expert, epoch).to(device))


def last_start(trajectories: Trajectories, wanted: int | None, published: int, expert_epochs: int) -> int:
    """T+, before which segments start: as wanted, or else the paper's, as far as the experts go.

    Raises:
        ParamsError: the experts did not train long enough.
    """
    possible = trajectories.n_epochs - expert_epochs + 1
    if possible < 1:
        raise ParamsError(
            f"expert_epochs: a segment takes {expert_epochs} epochs, but the experts in {trajectories.path} trained "
            f"for {trajectories.n_epochs}; lower it, or train them longer"
        )
    if wanted is not None and wanted > possible:
        raise ParamsError(
            f"max_start_epoch: a segment starts at epoch {wanted - 1} at the latest and takes {expert_epochs} epochs, "
            f"but the experts in {trajectories.path} trained for {trajectories.n_epochs}; lower it, or train longer"
        )
    return wanted or min(published, possible)


def inner_loss(
    net: FlatNet, targets: Tensor | None, batches: Sequence[Tensor | None], augmentation: str, seed: int,
    scale: float = 1.0,
) -> StepLoss:  # fmt: skip
    """The students' loss: cross-entropy with hard labels, or with the softmax of soft ones.

    Args:
        net: of the students.
        targets: (M,) labels; None where the data's second tensor holds the logits (M, K) of soft labels.
        batches: positions of each step's images, None for all.
        augmentation: a strategy of `condense.pixels.augmentation`.
        seed: of the augmentation, with the step's number.
        scale: of the loss.
    """

    def loss(n: int, theta: Tensor, data: Data) -> Tensor:
        pixels, wanted = data[0], data[1].softmax(1) if targets is None else targets
        if (chosen := batches[n]) is not None:
            pixels, wanted = pixels[chosen], wanted[chosen]
        logits = net(theta, augment(pixels, augmentation, derive_seed(seed, "step", n)))
        value = torch.nn.functional.cross_entropy(logits, wanted)
        return value if scale == 1.0 else scale * value

    return loss


def draw_batches(n_images: int, batch_size: int | None, n_steps: int, seed: int) -> list[Tensor | None]:
    """Positions for each inner step: pieces of one permutation after another; None where a batch holds all images."""
    if batch_size is None or batch_size >= n_images:
        return [None] * n_steps
    pieces: list[Tensor | None] = []
    generator = _generator(seed, "batches", 0)
    while len(pieces) < n_steps:
        pieces += torch.randperm(n_images, generator=generator).split(batch_size)
    return pieces[:n_steps]


def real_images(task: Task, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the real images at these positions, to start from."""
    index = torch.as_tensor(chosen, device=task.images.device)
    return task.images[index].clone(), task.labels[index].clone()


def at_random(task: Task) -> list[int]:
    """Positions of `images_per_class` images of each class, class by class."""
    chosen: list[int] = []
    labels = task.labels.cpu()
    for label in range(task.n_classes):
        (members,) = torch.nonzero(labels == label, as_tuple=True)
        order = torch.randperm(len(members), generator=_generator(task.seed, "initial", label))
        chosen += members[order[: task.images_per_class]].tolist()
    return chosen


class Variables:
    """The tensors that are learned, with their optimiser; the step size as its logarithm, so that it stays positive."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        rates: Mapping[str, float],
        optimizer: Literal["sgd", "adam"],
        momenta: Mapping[str, float] | None = None,
    ) -> None:
        """Each tensor has a rate of its own; one of rate 0 stays as it is.

        SGD has momentum 0.5 (section 4 of arXiv:2203.11932 and its code), unless `momenta` says another for a tensor;
        Adam has 0.5 and 0.9.
        """
        self.tensors = {name: one.clone().requires_grad_() for name, one in tensors.items()}
        learned = {name: one for name, one in self.tensors.items() if rates[name]}
        groups: list[dict[str, Any]] = [{"params": [one], "lr": rates[name]} for name, one in learned.items()]
        if optimizer == "sgd":
            for name, group in zip(learned, groups, strict=True):
                group["momentum"] = (momenta or {}).get(name, 0.5)
            self._optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=0.0)
        else:
            self._optimizer = torch.optim.Adam(groups, betas=(0.5, 0.9))

    def __getitem__(self, name: str) -> Tensor:
        """One, without a gradient; later updates change it."""
        return self.tensors[name].detach()

    @property
    def step_size(self) -> Tensor:
        """Scalar."""
        return self["log_step_size"].exp()

    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """One step of the optimiser."""
        for name, one in self.tensors.items():
            one.grad = gradients[name]
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """As torch's: all that `load_state_dict` needs."""
        return {"tensors": {name: self[name] for name in self.tensors}, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for name, one in state["tensors"].items():
            self.tensors[name].data.copy_(one)
        self._optimizer.load_state_dict(state["optimizer"])


class MatchingLearner:
    """A `Learner` whose method gives the gradients of what is learned."""

    def __init__(
        self,
        variables: Variables,
        labels: Tensor,
        n_iterations: int,
        gradients: Callable[[int], tuple[Tensor, Mapping[str, Tensor]]],
    ) -> None:
        """`variables` are `pixels`, and perhaps `log_step_size` and `soft_labels`; `gradients` takes the iteration."""
        self.n_iterations = n_iterations
        self._variables, self._labels, self._gradients = variables, labels, gradients

    def step(self, iteration: int) -> float:
        """See `condense.images.Learner`."""
        loss, gradients = self._gradients(iteration)
        self._variables.update(gradients)
        return float(loss)

    def result(self) -> Learned:
        """See `condense.images.Learner`."""
        copies = {name: self._variables[name].clone() for name in self._variables.tensors}
        return Learned(
            pixels=copies["pixels"],
            labels=self._labels,
            soft_labels=copies.get("soft_labels"),
            step_size=float(copies["log_step_size"].exp()) if "log_step_size" in copies else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """See `condense.images.Learner`."""
        return self._variables.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `condense.images.Learner`."""
        self._variables.load_state_dict(state)


@dataclass(frozen=True)
class Plan:
    """What a method makes of a segment: the student's start (P,), its targets, its loss's factor."""

    start: Tensor
    targets: Sequence[Target]
    scale: float = 1.0
    momentum: float = 0.0


def follow(
    config: Matching, task: Task, experts: Trajectories, places: Sequence[int], last: int,
    plan: Callable[[Segment, int], Plan],
) -> MatchingLearner:  # fmt: skip
    """A learner of pixels and step size, algorithm 1 of arXiv:2203.11932.

    Args:
        config: the method's.
        task: what is condensed.
        experts: the task's.
        places: of the images that it starts from, class by class.
        last: T+, before which segments start.
        plan: of a segment, and of the iteration's seed.
    """
    device, n_steps = task.images.device, config.student_steps
    pixels, labels = real_images(task, places)
    variables = Variables(
        {"pixels": pixels, "log_step_size": torch.tensor(config.step_size, device=device).log()},
        {"pixels": config.image_learning_rate, "log_step_size": config.step_size_learning_rate},
        config.optimizer,
    )

    def gradients(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
        segment = draw_segment(experts, task.seed, iteration, range(last), device)
        seed = derive_seed(task.seed, "iteration", iteration)
        planned = plan(segment, seed)
        batches = draw_batches(len(labels), config.batch_size, n_steps, seed)
        loss = inner_loss(experts.net, labels, batches, config.augmentation, seed, planned.scale)
        step_size = variables.step_size
        found = MATCHINGS[config.gradient](
            loss, planned.start, (variables["pixels"],), step_size, n_steps, planned.targets, planned.momentum
        )
        return found.loss, {"pixels": found.data[0], "log_step_size": found.step_size * step_size}

    return MatchingLearner(variables, labels, config.iterations, gradients)


def target(
    experts: Trajectories, segment: Segment, start: Tensor, epoch: int, step: int, weight: float = 1.0
) -> Target:
    """The segment's expert `epoch` epochs after its start, where the student should be after `step` steps."""
    end = experts.at(segment.expert, segment.epoch + epoch).to(start.device)
    return Target(step, end, (start - end).square().sum(), weight)


def experts_of(task: Task, method: str) -> Trajectories:
    """The task's trajectories.

    Raises:
        ParamsError: there are none.
    """
    if task.trajectories is None:
        raise ParamsError(f"method: {method} follows experts; give those of `datastill experts` as --experts")
    return task.trajectories


def _generator(seed: int, *parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, *parts))
