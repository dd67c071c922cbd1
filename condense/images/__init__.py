"""Condensing images: a method makes a few images that train students as many do; one file each.

characteristic_function_matching  embeddings are distributed as the real images' are (NCFM)
difficulty_aligned  students follow the part of the experts' training that fits the set's size; soft labels (DATM)
distribution_matching  embeddings of untrained networks have the real images' means (DM)
realistic_patches  the crops of real images that an expert knows best, put together as images (RDED)
smooth_trajectory_matching  the same from smooth experts (AST), in each of whose parts it may be switched off
trajectory_matching  students of the set follow experts' steps (MTT), with the exact gradient in constant memory
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from condense.trajectories import Trajectories


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is condensed.

    Attributes:
        images: (N, C, H, W) float32, as networks see them.
        labels: (N,) int64.
        n_classes: K; each class has images.
        images_per_class: of the condensed set.
        trajectories: the experts' parameters, or None for methods that need none.
        net: name of the network, as `condense.nets.opening` reads it.
        width: of it, where the name has none.
        seed: of every draw, with the iteration.
    """

    images: "Tensor"
    labels: "Tensor"
    n_classes: int
    images_per_class: int
    trajectories: "Trajectories | None"
    net: str
    width: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a method gives: pixels (M, C, H, W), labels (M,), and soft labels (M, K) and the step size where it has."""

    pixels: "Tensor"
    labels: "Tensor"
    soft_labels: "Tensor | None" = None
    step_size: float | None = None


class Learner(Protocol):
    """A method at work. The stage owns the loop, its checkpoints and its end.

    Attributes:
        n_iterations: that `step` is called.
    """

    n_iterations: int

    def step(self, iteration: int) -> float:
        """One iteration, from 0; returns its loss. Draws depend on the seed and the iteration alone."""
        ...

    def result(self) -> Learned:
        """A copy of the set as it is now."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs besides the task, the config and the iteration's number, for `torch.save`."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


class ImagesMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, task: Task) -> Learner:
        """A learner at its start.

        Raises:
            ParamsError: the config does not fit the task, such as a window beyond the trajectories' end.
            DataError: the images do not, such as a class with too few.
        """
        ...
