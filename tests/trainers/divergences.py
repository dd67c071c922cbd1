"""What every divergence keeps, whatever its formula: each check takes the objective, some with options set.

Axes: N tokens, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from trainers.signals import HiddenStates, Labelled, Mixed, SparseLogProbs

Divergence: TypeAlias = Callable[..., Any]
N, V = 6, 9


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def logits_of(*probabilities: tuple[float, ...]) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def loss_and_gradient(objective: Divergence, student: Tensor, signal: Any, mask: Tensor | None = None) -> Any:
    """Loss, count and gradient by the student's logits."""
    logits = student.detach().clone().requires_grad_()
    mask = torch.ones(student.shape[:-1], dtype=torch.bool) if mask is None else mask
    loss, n = objective(logits, signal, mask)
    loss.backward()
    return loss.detach(), n, logits.grad


def sparse(teacher: Tensor, k: int) -> SparseLogProbs:
    """The `k` likeliest, the mass of the others, and a column of padding."""
    log_p = teacher.log_softmax(-1)
    values, ids = log_p.topk(k, dim=-1)
    rest = log_p.scatter(1, ids, -torch.inf).logsumexp(-1)
    nothing = torch.zeros(len(ids), 1)
    return SparseLogProbs(torch.cat([ids, nothing.long()], 1), torch.cat([values, nothing.log().double()], 1), rest)


def zero_at_the_teacher(objective: Divergence) -> None:
    """Loss and gradient, with logits that differ by a constant in each row, and with a sparse signal."""
    student = normal(N, V)
    for signal in (student.clone(), sparse(student, 3), sparse(student, V)):
        loss, n, gradient = loss_and_gradient(objective, student, signal)
        assert abs(loss) < 1e-12 and n == N
        assert gradient.abs().max() < 1e-12
    loss, _, _ = loss_and_gradient(objective, student, student + normal(N, 1, seed=9))
    assert abs(loss) < 1e-12


def positive_elsewhere(objective: Divergence) -> None:
    """A divergence of distributions that differ."""
    assert loss_and_gradient(objective, normal(N, V), normal(N, V, seed=1))[0] > 0.1


def finite_differences(objective: Divergence) -> None:
    """Dense and sparse, in float64."""
    student, teacher = normal(N, V).requires_grad_(), normal(N, V, seed=1)
    mask = torch.tensor([True, False, True, True, True, False])
    for signal in (teacher, sparse(teacher, 3), sparse(teacher, V)):
        assert torch.autograd.gradcheck(lambda z, s=signal: objective(z, s, mask).sum, (student,))


def a_constant_changes_nothing(objective: Divergence) -> None:
    """Softmax does not see one, in the student's logits or the teacher's."""
    student, teacher = normal(N, V), normal(N, V, seed=1)
    plain = loss_and_gradient(objective, student, teacher)
    moved = loss_and_gradient(objective, student + 50, teacher - normal(N, 1, seed=2))
    torch.testing.assert_close(moved, plain, rtol=1e-10, atol=1e-12)


def what_is_masked_does_not_matter(objective: Divergence) -> None:
    """NaN stands there, in both; the rest is as if it were alone."""
    student, teacher = normal(2, 3, V), normal(2, 3, V, seed=1)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    alone = loss_and_gradient(objective, student[mask], teacher[mask])
    student[~mask] = teacher[~mask] = torch.nan
    loss, n, gradient = loss_and_gradient(objective, student, teacher, mask)
    torch.testing.assert_close((loss, n), alone[:2])
    torch.testing.assert_close(gradient[mask], alone[2])
    assert not gradient[~mask].any()


def nothing_under_the_mask(objective: Divergence) -> None:
    """(0, 0), and a gradient of zeros."""
    for signal in (normal(N, V, seed=1), sparse(normal(N, V, seed=1), 3)):
        loss, n, gradient = loss_and_gradient(objective, normal(N, V), signal, torch.zeros(N, dtype=torch.bool))
        assert (loss.item(), n.item()) == (0, 0)
        assert not gradient.any()


def all_ids_are_dense(objective: Divergence) -> None:
    """A sparse signal with an entry for every token, in an order of its own, and padding."""
    student, teacher = normal(N, V), normal(N, V, seed=1)
    given, wanted = (loss_and_gradient(objective, student, s) for s in (sparse(teacher, V), teacher))
    torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-12)


def a_tail_is_one_outcome(objective: Divergence) -> None:
    """A vocabulary of k + 1 outcomes made by hand: entries, and the log of the others' summed probability."""
    student, teacher = normal(N, V), normal(N, V, seed=1)
    signal = sparse(teacher, 3)
    q, ids = student.softmax(-1), signal.ids[:, :3]
    outcomes = torch.cat([q.gather(1, ids), q.scatter(1, ids, 0).sum(-1, keepdim=True)], 1).log()
    teacher_outcomes = torch.cat([signal.log_weights[:, :3], signal.log_tail[:, None]], 1)
    by_hand = loss_and_gradient(objective, outcomes, teacher_outcomes)[0]
    torch.testing.assert_close(loss_and_gradient(objective, student, signal)[0], by_hand, rtol=1e-10, atol=0)


def padding_of_the_vocabulary_changes_nothing(objective: Divergence) -> None:
    """Whoever is padded, and with whatever; or both with logits that are -inf; sparse entries beyond the student."""
    student, teacher = normal(N, V), normal(N, V, seed=1)
    loss, n, gradient = loss_and_gradient(objective, student, teacher)
    for noise in (torch.zeros(N, 4).double(), normal(N, 4, seed=3)):
        found = loss_and_gradient(objective, student, torch.cat([teacher, noise], 1))
        torch.testing.assert_close(found, (loss, n, gradient), rtol=1e-10, atol=1e-12)
        found = loss_and_gradient(objective, torch.cat([student, noise], 1), teacher)
        torch.testing.assert_close(found[0], loss, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found[2][:, :V], gradient, rtol=1e-10, atol=1e-12)
        assert not found[2][:, V:].any()
    padding = torch.full((N, 4), -torch.inf, dtype=torch.float64)
    found = loss_and_gradient(objective, torch.cat([student, padding], 1), torch.cat([teacher, padding], 1))
    torch.testing.assert_close(found[0], loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[2][:, :V], gradient, rtol=1e-10, atol=1e-12)
    assert not found[2][:, V:].any()
    wide = sparse(torch.cat([teacher, normal(N, 4, seed=3)], 1), V + 4)
    torch.testing.assert_close(loss_and_gradient(objective, student, wide), (loss, n, gradient), rtol=1e-10, atol=1e-12)


def every_form_of_a_dense_signal_is_the_same(objective: Divergence) -> None:
    """States and head, one teacher mixed with itself, tokens beside it: the logits that they stand for."""
    student, hidden, weight, bias = normal(N, V), normal(N, 5, seed=4) / 4, normal(V, 5, seed=5) / 4, normal(V, seed=6)
    logits = hidden @ weight.T + bias
    wanted = loss_and_gradient(objective, student, logits)
    states = HiddenStates(hidden, weight, bias)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    mixtures = Mixed([states, logits], weights), Mixed([logits, states], weights.expand(N, -1))
    for signal in (states, *mixtures, Labelled(torch.zeros(N).long(), states)):
        torch.testing.assert_close(loss_and_gradient(objective, student, signal), wanted, rtol=1e-10, atol=1e-12)


def half_precision_is_summed_in_float32(objective: Divergence) -> None:
    """1,000 equal tokens cost 1,000 times one; a bfloat16 sum would stall."""
    student, teacher = (normal(1, 4, seed=seed).bfloat16() for seed in (0, 1))
    one = loss_and_gradient(objective, student.float(), teacher.float())[0]
    many = loss_and_gradient(objective, student.expand(1000, -1), teacher.expand(1000, -1))[0]
    torch.testing.assert_close(many, 1000 * one, rtol=1e-5, atol=0)


def bad_input_is_named(objective: Divergence) -> None:
    """Shapes, tokens in a distribution's place, a temperature that is none, drawn entries."""
    student, mask = normal(N, V), torch.ones(N, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"logits \(6, 9\), signal of \(5,\) tokens and mask \(6,\)"):
        objective(student, normal(5, V), mask)
    with pytest.raises(ValueError, match=r"a signal of torch.int64: a divergence needs a teacher's logits"):
        objective(student, torch.zeros(N, dtype=torch.int64), mask)
    with pytest.raises(ValueError, match=r"temperature 0: must be above 0"):
        objective(student, student, mask, temperature=0)
    with pytest.raises(ValueError, match=r"temperature 2.*sparse signal is of temperature 1"):
        objective(student, sparse(student, 3), mask, temperature=2)


SMOOTH = [
    zero_at_the_teacher, positive_elsewhere, finite_differences, a_constant_changes_nothing,
    what_is_masked_does_not_matter, nothing_under_the_mask, all_ids_are_dense, a_tail_is_one_outcome,
    padding_of_the_vocabulary_changes_nothing, every_form_of_a_dense_signal_is_the_same,
    half_precision_is_summed_in_float32, bad_input_is_named,
]  # fmt: skip
