import math

import pytest
import torch
from pytest import approx

from tests.trainers.divergences import SMOOTH, Divergence, logits_of, loss_and_gradient, normal
from trainers.objectives.total_variation import total_variation


@pytest.mark.parametrize("check", SMOOTH, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps(check: Divergence):
    check(total_variation)


def test_two_token_vocabulary_closed_form():
    """(.9, .1) and (.1, .9) differ by 0.8; no token in common is 1."""
    loss, n = total_variation(logits_of((0.1, 0.9)), logits_of((0.9, 0.1)), torch.ones(1, 1).bool())
    assert loss.item() == approx(0.8, rel=1e-12)
    assert n.item() == 1
    one, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    assert total_variation(one, other, torch.ones(1).bool()).sum.item() == 1


def test_one_minus_it_is_the_acceptance():
    """Leviathan et al.: the sum of min(p, q)."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    acceptance = torch.minimum(student.softmax(-1), teacher.softmax(-1)).sum()
    assert total_variation(student, teacher, torch.ones(4).bool()).sum.item() == approx(4 - acceptance.item())


def test_the_gradient_is_the_policy_gradient_of_acceptance():
    """- E_q[1(p > q) grad log q] over the whole vocabulary: - q (1(p > q) - E_q[1(p > q)]) by the logits."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    q, r = student.softmax(-1), (teacher.softmax(-1) > student.softmax(-1)).double()
    expected = -q * (r - (q * r).sum(-1, keepdim=True))
    torch.testing.assert_close(loss_and_gradient(total_variation, student, teacher)[2], expected)
