import math

import pytest
import torch
from pytest import approx

from tests.trainers.divergences import SMOOTH, Divergence, logits_of, loss_and_gradient, normal, sparse
from trainers.objectives.reverse_kl import reverse_kl
from trainers.signals import SparseLogProbs


@pytest.mark.parametrize("check", SMOOTH, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps(check: Divergence):
    check(reverse_kl)


def test_two_token_vocabulary_closed_form():
    """KL((1/4, 3/4) || (1/2, 1/2)) = ln 2 - H(1/4); not the other way round, which is ln 2 - ln 3 / 2 + ..."""
    loss, n = reverse_kl(logits_of((0.25, 0.75)), logits_of((0.5, 0.5)), torch.ones(1, 1).bool())
    assert loss.item() == approx(0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5), rel=1e-12)
    assert n.item() == 1


def test_the_gradient_in_closed_form():
    """Q (log q - log p - KL), by the student's logits; at T, T squared over T of it."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    for t in (1.0, 3.0):
        log_q, log_p = (student / t).log_softmax(-1), (teacher / t).log_softmax(-1)
        kl = (log_q.exp() * (log_q - log_p)).sum(-1, keepdim=True)
        gradient = loss_and_gradient(lambda *a, t=t: reverse_kl(*a, temperature=t), student, teacher)[2]
        torch.testing.assert_close(gradient, t * log_q.exp() * (log_q - log_p - kl))


def test_what_the_teacher_excludes_is_refused_unless_the_student_does_too():
    """Infinite, and not NaN or a finite number: KL((1/4, 3/4) || (1, 0)); KL((1, 0) || (1/4, 3/4)) = ln 4."""
    some, one = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.0, -math.inf]])
    with pytest.raises(ValueError, match=r"reverse_kl is infinite.*learned token 0, outcome 1.*both models"):
        reverse_kl(some, one, torch.ones(1).bool())
    loss, _, gradient = loss_and_gradient(reverse_kl, one, some)
    assert loss.item() == approx(math.log(4), rel=1e-6)
    assert gradient.isfinite().all()


def test_drawn_entries_are_refused():
    signal = sparse(normal(3, 7), 2)
    drawn = SparseLogProbs(signal.ids, signal.log_weights, signal.log_tail, draws=True)
    with pytest.raises(ValueError, match=r"drawn entries.*take method=topk"):
        reverse_kl(normal(3, 7), drawn, torch.ones(3).bool())
