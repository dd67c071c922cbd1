import functools

import pytest
import torch
from pytest import approx

from tests.trainers.divergences import (
    SMOOTH,
    Divergence,
    finite_differences,
    logits_of,
    loss_and_gradient,
    normal,
)
from trainers.objectives.total_variation_pp import Config, State, total_variation_pp

CHECKS = [check for check in SMOOTH if check is not finite_differences]  # the gradient is none of the value's


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps(check: Divergence):
    check(total_variation_pp)


def parts(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q, p = student.softmax(-1), teacher.softmax(-1)
    r = (p > q).double()
    return q, r, (q * r).sum(-1, keepdim=True)


def test_the_value_is_total_variation():
    """0.8 for (.9, .1) and (.1, .9)."""
    loss, n = total_variation_pp(logits_of((0.1, 0.9)), logits_of((0.9, 0.1)), torch.ones(1, 1).bool())
    assert (loss.item(), n.item()) == (approx(0.8, rel=1e-12), 1)


def test_the_gradient_of_a_token_s_own_baseline():
    """- q ((r - mean) / deviation) by the logits: an advantage of mean 0 under q has no more terms."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    q, r, mean = parts(student, teacher)
    deviation = ((q * (r - mean) ** 2).sum(-1, keepdim=True)).sqrt()
    gradient = loss_and_gradient(total_variation_pp, student, teacher)[2]
    torch.testing.assert_close(gradient, -q * (r - mean) / deviation)


def test_two_tokens_by_hand():
    """Q = (.1, .9), r = (1, 0): mean .1, deviation .3, so - .1 * .9 / .3 and .9 * .1 / .3 by the logits."""
    gradient = loss_and_gradient(total_variation_pp, logits_of((0.1, 0.9)), logits_of((0.9, 0.1)))[2]
    torch.testing.assert_close(gradient, torch.tensor([[[-0.3, 0.3]]]).double())


def test_a_batch_s_baseline_scales_total_variation():
    """Subtracting a mean changes no gradient over the whole vocabulary, so it is total variation's over a deviation."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    q, r, own = parts(student, teacher)
    mean = own.mean().item()
    gradient = loss_and_gradient(functools.partial(total_variation_pp, mean=mean), student, teacher)[2]
    torch.testing.assert_close(gradient, -q * (r - own) / (mean * (1 - mean)) ** 0.5)


def test_no_deviation_is_no_gradient():
    """A teacher that is the student: r is 0 everywhere; and a step where nothing is left to agree."""
    student = normal(4, 7)
    assert not loss_and_gradient(total_variation_pp, student, student)[2].any()
    at_zero = functools.partial(total_variation_pp, mean=0.0)
    assert not loss_and_gradient(at_zero, student, normal(4, 7, seed=1))[2].any()


def test_the_mean_of_a_step_is_taken_in_a_pass_before():
    """By hand over all tokens of two parts of unequal length; the objective is as before when the pass is over."""
    student, teacher = normal(5, 7), normal(5, 7, seed=1)
    state = State(Config.model_validate({"baseline": "batch"}))
    cuts = slice(0, 4), slice(4, 5)

    def mean_loss() -> float:
        found = [state.objective(student[cut], teacher[cut], torch.ones(len(student[cut])).bool()) for cut in cuts]
        return sum(one.sum.item() for one in found) / sum(one.n.item() for one in found)

    assert state.needs_first_pass and not State(Config.model_validate({})).needs_first_pass
    state.begin(mean_loss)
    mean = parts(student, teacher)[2].mean().item()
    assert state.update(0.0, 1, 10) == {"mean_agreement": approx(mean, rel=1e-12)}
    given, wanted = (
        loss_and_gradient(one, student, teacher)
        for one in (state.objective, functools.partial(total_variation_pp, mean=mean))
    )
    torch.testing.assert_close(given, wanted)
