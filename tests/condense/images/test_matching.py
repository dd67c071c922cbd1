"""Oracles: finite differences in float64, a quadratic's closed form, autograd through the whole training."""

import math

import pytest
import torch
from torch import Tensor

from condense.images._matching import (
    Data,
    Matched,
    Matching,
    Target,
    matching_adjoint,
    matching_tesla,
    matching_unrolled,
)
from condense.nets.flat import FlatNet
from condense.nets.opening import open_net

N_STEPS = 5
EXACT = [matching_adjoint, matching_unrolled]


def problem(
    dtype: torch.dtype, momentum: float, matching: Matching, n_steps: int = N_STEPS, shift: Tensor | None = None
):
    """L of a small ConvNet's training on 4 images with soft labels, with a target on the way and one at the end."""
    torch.manual_seed(0)
    net = FlatNet(open_net("convnet2", (1, 8, 8), 3, width=4, seed=0).to(dtype))
    start = net.initial()
    pixels, soft = torch.randn(4, 1, 8, 8, dtype=dtype), torch.randn(4, 3, dtype=dtype)
    if shift is not None:
        pixels = pixels + shift
    ends = [start + 0.1 * torch.randn_like(start) for _ in range(2)]
    targets = [Target(n_steps, ends[0], torch.tensor(2.0, dtype=dtype))]
    if n_steps > 1:
        targets.append(Target(n_steps // 2, ends[1], torch.tensor(3.0, dtype=dtype), 0.5))

    def loss(n: int, theta: Tensor, data: Data) -> Tensor:
        chosen = torch.tensor([n % 4, (n + 1) % 4])
        return torch.nn.functional.cross_entropy(net(theta, data[0][chosen]), data[1][chosen].softmax(1))

    return matching(loss, start, (pixels, soft), torch.tensor(0.3, dtype=dtype), n_steps, targets, momentum)


def distance(a: Matched, b: Matched) -> float:
    """Largest relative error of the three gradients and the loss."""
    pairs = zip((a.loss, *a.data, a.step_size), (b.loss, *b.data, b.step_size), strict=True)
    return max(float((x - y).norm() / y.norm()) for x, y in pairs)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("n_steps", [1, 2, 20])
def test_the_adjoint_is_autograd(momentum: float, dtype: torch.dtype, bound: float, n_steps: int):
    found = [problem(dtype, momentum, matching, n_steps) for matching in EXACT]
    assert distance(*found) <= bound


@pytest.mark.parametrize("matching", EXACT)
def test_finite_differences(matching: Matching):
    """The derivative along a random direction of the pixels, in float64."""
    direction = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = 1e-5
    up, down = (problem(torch.float64, 0.9, matching, shift=sign * step * direction).loss for sign in (1, -1))
    slope = float((problem(torch.float64, 0.9, matching).data[0] * direction).sum())
    assert slope == pytest.approx(float(up - down) / (2 * step), rel=1e-6)


def quadratic(n: int, theta: Tensor, data: Data) -> Tensor:
    """Half the squared distance from the data's one vector."""
    return 0.5 * (theta - data[0]).square().sum()


@pytest.mark.parametrize("matching", EXACT)
def test_a_quadratic_in_closed_form(matching: Matching):
    """theta[N] = s + (1 - a)^N (theta[0] - s), so L and both derivatives are known."""
    start, data, target = (torch.tensor(one, dtype=torch.float64) for one in ([1.0, -2.0], [0.5, 1.0], [0.0, 0.25]))
    rate, n = 0.2, 7
    shrunk = (1 - rate) ** n
    end = data + shrunk * (start - data)
    found = matching(quadratic, start, (data,), torch.tensor(rate, dtype=torch.float64), n,
                     [Target(n, target, torch.tensor(4.0, dtype=torch.float64))], 0.0)  # fmt: skip
    assert float(found.loss) == pytest.approx(float((end - target).square().sum()) / 4, rel=1e-12)
    assert torch.allclose(found.data[0], (1 - shrunk) * (end - target) / 2, rtol=1e-12)
    slope = float((-n * (1 - rate) ** (n - 1) * (start - data) * (end - target)).sum()) / 2
    assert float(found.step_size) == pytest.approx(slope, rel=1e-12)


def test_tesla_is_exact_for_one_step_and_not_for_more():
    """And its error is the published one's kind: the direction is near, the size is not."""
    one = [problem(torch.float64, 0.0, matching, 1) for matching in (matching_tesla, matching_unrolled)]
    assert distance(*one) <= 1e-12
    more = [problem(torch.float64, 0.0, matching, 20) for matching in (matching_tesla, matching_unrolled)]
    assert distance(*more) > 1e-3


def test_no_step_away_costs_one_and_the_expert_s_own_step_costs_nothing():
    """L = 1 where a student stays at the start; 0 where it takes the step that the expert took."""
    start, data = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 5.0])
    target = start - 0.1 * (start - data)
    away = Target(1, target, (start - target).square().sum())
    stayed = matching_adjoint(quadratic, start, (start,), torch.tensor(0.1), 1, [away])
    followed = matching_adjoint(quadratic, start, (data,), torch.tensor(0.1), 1, [away])
    assert float(stayed.loss) == pytest.approx(1, abs=1e-6)
    assert float(followed.loss) == 0


def test_momentum_by_hand():
    """Two steps from 0 towards s = 1: theta = a, then a + a (1 - a + m) ..., written out."""
    a, m = 0.25, 0.5
    first = a
    second = first + a * ((1 - first) + m)
    target = Target(2, torch.zeros(1, dtype=torch.float64), torch.ones((), dtype=torch.float64))
    one = torch.ones(1, dtype=torch.float64)
    found = matching_adjoint(
        quadratic, torch.zeros_like(one), (one,), torch.tensor(a, dtype=torch.float64), 2, [target], m
    )
    assert float(found.loss) == pytest.approx(second**2, rel=1e-12)
    assert math.isclose(float(found.data[0]), 2 * second * second, rel_tol=1e-12)
