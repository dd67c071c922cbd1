import math

import pytest
import torch
from pytest import approx

from tests.trainers.divergences import SMOOTH, Divergence, logits_of, loss_and_gradient, normal
from trainers.objectives.negative_log_acceptance import negative_log_acceptance


@pytest.mark.parametrize("check", SMOOTH, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps(check: Divergence):
    check(negative_log_acceptance)


def test_two_token_vocabulary_closed_form():
    """Min of (.9, .1) and (.1, .9) sums to 0.2."""
    loss, n = negative_log_acceptance(logits_of((0.1, 0.9)), logits_of((0.9, 0.1)), torch.ones(1, 1).bool())
    assert loss.item() == approx(-math.log(0.2), rel=1e-12)
    assert n.item() == 1


def test_the_gradient_is_total_variation_s_over_the_acceptance():
    """d(-log a) = -da / a, with TV = 1 - a differentiated by autograd here, token by token."""
    student, teacher = normal(4, 7).requires_grad_(), normal(4, 7, seed=1)
    acceptance = torch.minimum(student.softmax(-1), teacher.softmax(-1)).sum(-1)
    (of_total_variation,) = torch.autograd.grad((1 - acceptance).sum(), student)
    gradient = loss_and_gradient(negative_log_acceptance, student, teacher)[2]
    torch.testing.assert_close(gradient, of_total_variation / acceptance.detach()[:, None])


def test_a_cold_draft_still_learns():
    """Where the draft gives the teacher's token e^-40, total variation's gradient is e^-40, this one's is 1."""
    student, teacher = torch.tensor([[0.0, 40.0]]).double(), torch.tensor([[40.0, 0.0]]).double()
    gradient = loss_and_gradient(negative_log_acceptance, student, teacher)[2]
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5]]).double(), rtol=1e-10, atol=0)


def test_no_token_in_common_is_refused():
    one, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    with pytest.raises(ValueError, match="negative_log_acceptance is infinite"):
        negative_log_acceptance(one, other, torch.ones(1).bool())
