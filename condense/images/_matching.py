"""The gradient of trajectory matching: how the end of a student's training depends on what it was trained on.

Cazenavette et al. Dataset Distillation by Matching Training Trajectories. 2022. arXiv:2203.11932, algorithm 1. A
student starts at an expert's parameters and takes N steps of SGD on the condensed data,

    g[n] = d loss(n, theta[n], data) / d theta,
    b[n+1] = momentum b[n] + g[n],
    theta[n+1] = theta[n] - step_size b[n+1],

and the objective is how far it ends from where the expert went,

    L = sum over targets of weight |theta[n] - target|^2 / distance.

Three functions give L with its gradient in the data and the step size:

matching_adjoint   exact, in the memory of one step's graph and the N states: the reverse recursion
                       lambda[n] = lambda[n+1] + H[n] mu[n],  mu[n] = momentum mu[n+1] - step_size lambda[n+1],
                   where H[n] mu[n] and the data's part are the derivatives of g[n] . mu[n], taken one step at a time.
                   L's derivative in the step size is sum g[n] . mu[n] / step_size: no gradient is stored
matching_unrolled  the same by autograd through all steps at once, whose graph grows with N: the check of the other
matching_tesla     Cui et al. Scaling Up Dataset Distillation to ImageNet-1K. 2022. arXiv:2211.10586: lambda is that of
                   the end in every step, as if theta[n] did not depend on the data. An approximation, exact for N = 1
                   only; the factor 2 that their code loses is here

Axes: P parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Data = tuple[Tensor, ...]


class StepLoss(Protocol):
    """The loss of one inner step; every draw is fixed by the step's number."""

    def __call__(self, n: int, theta: Tensor, data: Data) -> Tensor:
        """Scalar loss of step `n` at parameters (P,), on the condensed data."""
        ...


@dataclass(frozen=True)
class Target:
    """Where the student should be after a step.

    Attributes:
        step: n, from 1 to N.
        theta: (P,).
        distance: what the squared distance is divided by, above 0.
        weight: of this target in the sum.
    """

    step: int
    theta: Tensor
    distance: Tensor
    weight: float = 1.0

    def loss(self, theta: Tensor) -> Tensor:
        """This target's part of L, a scalar."""
        return self.weight * (theta - self.theta).square().sum() / self.distance

    def slope(self, theta: Tensor) -> Tensor:
        """(P,) its derivative."""
        return (2 * self.weight / self.distance) * (theta - self.theta)


@dataclass(frozen=True)
class Matched:
    """L, and its derivative in each tensor of the data and in the step size."""

    loss: Tensor
    data: Data
    step_size: Tensor


Matching = Callable[[StepLoss, Tensor, Data, Tensor, int, Sequence[Target], float], Matched]


def matching_adjoint(
    loss: StepLoss, start: Tensor, data: Data, step_size: Tensor, n_steps: int, targets: Sequence[Target],
    momentum: float = 0.0,
) -> Matched:  # fmt: skip
    """The exact gradient, in constant graph memory.

    Args:
        loss: of an inner step.
        start: (P,) parameters.
        data: any tensors that `loss` takes, such as pixels and soft labels.
        step_size: scalar, above 0.
        n_steps: N, at least 1.
        targets: at least one; the last step may have one or not.
        momentum: of the inner SGD, in [0, 1).

    Returns:
        L, and gradients of the shapes of `data` and `step_size`.
    """
    return _reverse(loss, start, data, step_size, n_steps, targets, momentum, with_curvature=True)


def matching_unrolled(
    loss: StepLoss, start: Tensor, data: Data, step_size: Tensor, n_steps: int, targets: Sequence[Target],
    momentum: float = 0.0,
) -> Matched:  # fmt: skip
    """As `matching_adjoint`, by autograd through the whole training; the graph of every step is kept."""
    leaves, rate = tuple(map(_leaf, data)), _leaf(step_size)
    theta = _leaf(start)
    states, velocity = [theta], None
    for n in range(n_steps):
        (gradient,) = torch.autograd.grad(loss(n, theta, leaves), theta, create_graph=True)
        velocity = gradient if velocity is None or not momentum else momentum * velocity + gradient
        theta = theta - rate * velocity
        states.append(theta)
    total = _total(states, targets)
    gradients = torch.autograd.grad(total, (*leaves, rate), materialize_grads=True)
    return Matched(total.detach(), gradients[:-1], gradients[-1])


def matching_tesla(
    loss: StepLoss, start: Tensor, data: Data, step_size: Tensor, n_steps: int, targets: Sequence[Target],
    momentum: float = 0.0,
) -> Matched:  # fmt: skip
    """TESLA's approximation of `matching_adjoint`: its recursion without the curvature H[n] mu[n]."""
    return _reverse(loss, start, data, step_size, n_steps, targets, momentum, with_curvature=False)


MATCHINGS: dict[str, Matching] = {
    "adjoint": matching_adjoint, "unrolled": matching_unrolled, "tesla": matching_tesla
}  # fmt: skip


def _reverse(
    loss: StepLoss, start: Tensor, data: Data, step_size: Tensor, n_steps: int, targets: Sequence[Target],
    momentum: float, *, with_curvature: bool,
) -> Matched:  # fmt: skip
    """The recursion of the module's docstring, one step's graph at a time."""
    leaves = tuple(map(_leaf, data))
    states, last = _train(loss, start, leaves, step_size, n_steps, momentum)
    slope = torch.zeros_like(start)  # lambda[n+1]
    carried = torch.zeros_like(start)  # momentum mu[n+1]
    gradients = tuple(map(torch.zeros_like, data))
    step_sum = torch.zeros_like(step_size)
    for n in reversed(range(n_steps)):
        for target in targets:
            if target.step == n + 1:
                slope += target.slope(states[n + 1])
        mu = carried - step_size * slope
        carried = momentum * mu
        theta, gradient = last or _step(loss, n, states[n], leaves, create_graph=True)
        last = None
        curved = with_curvature and n > 0  # nothing is asked about the start
        parts = torch.autograd.grad(gradient, (theta, *leaves) if curved else leaves, mu, materialize_grads=True)
        if curved:
            slope += parts[0]
        for total, part in zip(gradients, parts[-len(leaves) :], strict=True):
            total += part
        step_sum += gradient.detach() @ mu
    return Matched(_total(states, targets), gradients, step_sum / step_size)


def _train(
    loss: StepLoss, start: Tensor, leaves: Data, step_size: Tensor, n_steps: int, momentum: float
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """The states (N + 1, P) of the inner training, and the last `_step`, with whose graph the recursion begins."""
    states = start.new_empty(n_steps + 1, len(start))  # one piece: small ones between the graph's would scatter those
    states[0] = start
    state, velocity, step = start, torch.zeros_like(start), None
    for n in range(n_steps):
        step = _step(loss, n, state, leaves, create_graph=n == n_steps - 1)
        velocity = momentum * velocity + step[1].detach()
        state = state - step_size * velocity
        states[n + 1] = state
    return states, step


def _step(loss: StepLoss, n: int, state: Tensor, leaves: Data, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """The parameters of a step as a leaf, and the loss's gradient in them."""
    theta = _leaf(state)
    (gradient,) = torch.autograd.grad(loss(n, theta, leaves), theta, create_graph=create_graph)
    return theta, gradient


def _total(states: Sequence[Tensor] | Tensor, targets: Sequence[Target]) -> Tensor:
    return torch.stack([target.loss(states[target.step]) for target in targets]).sum()


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
