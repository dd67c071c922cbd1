import math

import pytest
import torch
from pytest import approx

from tests.trainers.divergences import SMOOTH, Divergence, logits_of, loss_and_gradient, normal
from trainers.objectives.jensen_shannon import jensen_shannon


@pytest.mark.parametrize("check", SMOOTH, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps(check: Divergence):
    check(jensen_shannon)


def test_two_token_vocabulary_closed_form():
    """0.9 ln 1.8 + 0.1 ln 0.2 = 0.368064 nats at 1/2, where it is symmetric."""
    pair = logits_of((0.9, 0.1)), logits_of((0.1, 0.9))
    for student, teacher in (pair, pair[::-1]):
        loss, n = jensen_shannon(student, teacher, torch.ones(1, 1).bool())
        assert loss.item() == approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), rel=1e-12)
        assert loss.item() == approx(0.368064, abs=5e-7)
        assert n.item() == 1


def test_the_weight_is_the_teacher_s():
    """By the definition, in plain probabilities: m = w p + (1 - w) q; the two are exchanged with 1 - w."""
    student, teacher = normal(3, 5), normal(3, 5, seed=1)
    q, p, w = student.softmax(-1), teacher.softmax(-1), 0.2
    m = w * p + (1 - w) * q
    by_hand = w * (p * (p / m).log()).sum() + (1 - w) * (q * (q / m).log()).sum()
    mask = torch.ones(3).bool()
    assert jensen_shannon(student, teacher, mask, weight_of_teacher=w).sum.item() == approx(by_hand.item(), rel=1e-12)
    exchanged = jensen_shannon(teacher, student, mask, weight_of_teacher=1 - w).sum
    assert exchanged.item() == approx(by_hand.item(), rel=1e-12)


def test_ends_are_forward_and_reverse_kl():
    """Divided by w as w goes to 0, by 1 - w as w goes to 1; both by their own formulas."""
    student, teacher, mask = normal(3, 5), normal(3, 5, seed=1), torch.ones(3).bool()
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    forward, reverse = (log_p.exp() * (log_p - log_q)).sum(), (log_q.exp() * (log_q - log_p)).sum()
    low = jensen_shannon(student, teacher, mask, weight_of_teacher=1e-6).sum / 1e-6
    high = jensen_shannon(student, teacher, mask, weight_of_teacher=1 - 1e-6).sum / 1e-6
    assert low.item() == approx(forward.item(), rel=1e-3)
    assert high.item() == approx(reverse.item(), rel=1e-3)


def test_no_token_in_common_costs_ln_2():
    """(1, 0) and (0, 1), by logits that are -inf: the most it can be; its gradient is finite."""
    one, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    loss, _, gradient = loss_and_gradient(jensen_shannon, one, other)
    assert loss.item() == approx(math.log(2), rel=1e-6)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("weight", [0, 1, 1.5])
def test_the_ends_themselves_are_refused(weight: float):
    with pytest.raises(ValueError, match=rf"weight_of_teacher {weight}.*forward_kl and reverse_kl"):
        jensen_shannon(normal(3, 5), normal(3, 5), torch.ones(3).bool(), weight_of_teacher=weight)
