import math

import pytest
import torch
from pytest import approx

from tests.trainers.divergences import SMOOTH, Divergence, logits_of, loss_and_gradient, normal, sparse
from trainers.objectives.forward_kl import forward_kl
from trainers.signals import SparseLogProbs


@pytest.mark.parametrize("check", SMOOTH, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps(check: Divergence):
    check(forward_kl)


def test_two_token_vocabulary_closed_form():
    """KL((.9, .1) || (.1, .9)) = 0.8 ln 9 nats."""
    loss, n = forward_kl(logits_of((0.1, 0.9)), logits_of((0.9, 0.1)), torch.ones(1, 1).bool())
    assert loss.item() == approx(0.8 * math.log(9), rel=1e-12)
    assert n.item() == 1


def test_the_gradient_is_q_minus_p():
    """By the student's logits, at temperature 1; at T, T squared over T of it."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    gradient = loss_and_gradient(forward_kl, student, teacher)[2]
    torch.testing.assert_close(gradient, student.softmax(-1) - teacher.softmax(-1))
    gradient = loss_and_gradient(lambda *a: forward_kl(*a, temperature=3.0), student, teacher)[2]
    torch.testing.assert_close(gradient, 3 * ((student / 3).softmax(-1) - (teacher / 3).softmax(-1)))


def test_high_temperature_gradient_is_logit_difference():
    """Hinton et al., equation 4: logits of mean 0, T to infinity, gradient to (z_student - z_teacher) / V."""
    student, teacher = (logits - logits.mean(-1, keepdim=True) for logits in (normal(3, 5), normal(3, 5, seed=1)))
    gradient = loss_and_gradient(lambda *a: forward_kl(*a, temperature=1e5), student, teacher)[2]
    torch.testing.assert_close(gradient, (student - teacher) / 5, rtol=1e-3, atol=1e-5)


def test_what_the_teacher_excludes_costs_nothing_and_the_student_s_infinity_is_refused():
    """-inf logits: KL((1, 0) || (1/4, 3/4)) = ln 4; the other way round it is infinite."""
    some, one = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.0, -math.inf]])
    loss, _, gradient = loss_and_gradient(forward_kl, some, one)
    assert loss.item() == approx(math.log(4), rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([[-0.75, 0.75]]))
    with pytest.raises(ValueError, match=r"forward_kl is infinite.*learned token 0, outcome 1.*both models"):
        forward_kl(one, some, torch.ones(1).bool())


def test_drawn_entries_give_the_gradient_in_the_mean():
    """The mean over draws by hand: 20,000 tokens, one draw each, from the teacher; KL plus entropy, and q - p."""
    student, teacher, n = normal(1, 5), normal(1, 5, seed=1), 20_000
    p = teacher.softmax(-1)
    ids = torch.multinomial(p.expand(n, -1), 1, generator=torch.Generator().manual_seed(0))
    nothing = torch.full((n,), -torch.inf, dtype=torch.float64)
    signal = SparseLogProbs(ids, torch.zeros(n, 1, dtype=torch.float64), nothing, draws=True)
    loss, _, gradient = loss_and_gradient(forward_kl, student.expand(n, -1), signal)
    cross_entropy = -(p * student.log_softmax(-1)).sum()
    assert loss / n == approx(cross_entropy.item(), rel=0.03)
    torch.testing.assert_close(gradient.mean(0), (student.softmax(-1) - p)[0], rtol=0, atol=0.015)
    exact = SparseLogProbs(torch.arange(5)[None], p.log(), nothing[:1], draws=True)
    torch.testing.assert_close(loss_and_gradient(forward_kl, student, exact)[0], cross_entropy)
    with pytest.raises(ValueError, match=r"temperature 2.0: a drawn signal"):
        forward_kl(student, exact, torch.ones(1).bool(), temperature=2.0)
    with pytest.raises(ValueError, match=r"token 4 was drawn, and the student has 3 logits"):
        forward_kl(student[:, :3], exact, torch.ones(1).bool())


def test_a_tail_left_out_or_renormalised_has_a_gradient_at_the_teacher():
    """Why the tail is an outcome: at student = teacher with 5 of 50 entries the two shortcuts' gradients are not 0."""
    teacher = normal(1, 50)
    signal = sparse(teacher, 5)
    assert loss_and_gradient(forward_kl, teacher, signal)[2].abs().max() < 1e-15
    nothing = torch.full_like(signal.log_tail, -torch.inf)
    renormalised = SparseLogProbs(signal.ids, signal.log_weights, nothing)
    left_out = SparseLogProbs(signal.ids, signal.log_weights, nothing, draws=True)
    for shortcut in (renormalised, left_out):
        assert loss_and_gradient(forward_kl, teacher, shortcut)[2].abs().max() > 0.01
