import functools
import math

import pytest
import torch
from pydantic import ValidationError
from pytest import approx

from tests.trainers.divergences import SMOOTH, Divergence, logits_of, loss_and_gradient, normal
from trainers.objectives.taid import Config, State, taid


@pytest.mark.parametrize("check", SMOOTH, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps_at_1(check: Divergence):
    check(taid)


HALFWAY = [check for check in SMOOTH if check.__name__ not in ("finite_differences", "bad_input_is_named")]


@pytest.mark.parametrize("check", HALFWAY, ids=lambda check: check.__name__)
def test_what_every_divergence_keeps_halfway(check: Divergence):
    """But finite differences, as the target takes the student's logits as constants."""
    check(functools.partial(taid, t=0.5))


def test_two_token_vocabulary_closed_form():
    """Halfway between (1/5, 4/5) and (4/5, 1/5) in logits is (1/2, 1/2), so KL is - ln(4/5 * 1/5) / 2 - ln 2."""
    loss, n = taid(logits_of((0.2, 0.8)), logits_of((0.8, 0.2)), torch.ones(1, 1).bool(), t=0.5)
    assert loss.item() == approx(-math.log(0.16) / 2 - math.log(2), rel=1e-12)
    assert n.item() == 1


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_is_q_minus_the_target(temperature: float):
    """No gradient through the target: nothing at t = 0, forward KL's at t = 1."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    for t in (0.0, 0.3, 1.0):
        objective = functools.partial(taid, t=t, temperature=temperature)
        loss, _, gradient = loss_and_gradient(objective, student, teacher)
        q = (student / temperature).softmax(-1)
        target = (((1 - t) * student + t * teacher) / temperature).softmax(-1)
        torch.testing.assert_close(gradient, temperature * (q - target))
        if t == 0:
            assert not loss and gradient.abs().max() < 1e-15


@pytest.mark.parametrize("t", [0.0, 1e-3, 0.5])
def test_what_the_teacher_excludes_is_excluded_at_any_t_above_0(t: float):
    """A teacher's logit of -inf: the target is (1, 0), so - ln 1/4; at t = 0 it is the student."""
    some, one = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.0, -math.inf]])
    loss, _, gradient = loss_and_gradient(functools.partial(taid, t=t), some, one)
    assert loss.item() == approx(math.log(4) if t else 0, rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([[-0.75, 0.75]]) if t else torch.zeros(1, 2))


def test_t_by_hand():
    """Algorithm 1 over three steps: the first has no loss before it; then the larger of the two rules."""
    state = State(Config.model_validate({"start": 0.4, "adaptivity": 0.5, "momentum": 0.9}))
    assert state.update(2.0, 1, 100) == {"t": 0.4}
    momentum = 0.1 * (2.0 - 1.0) / 2.0
    t = 0.4 + 0.5 / (1 + math.exp(-momentum)) * 0.6
    assert state.update(1.0, 2, 100) == {"t": approx(t, rel=1e-12)}
    momentum = 0.9 * momentum + 0.1 * (1.0 - 1.5) / 1.0
    t = t + 0.5 / (1 + math.exp(-momentum)) * (1 - t)
    assert state.update(1.5, 3, 100) == {"t": approx(t, rel=1e-12)}
    cold = State(Config.model_validate({"start": 0.0, "adaptivity": 0.5}))
    cold.update(0.0, 1, 100)
    assert cold.update(0.0, 2, 100)["t"] == approx(0.25)  # no loss yet, so half of the way's half
    with pytest.raises(ValidationError, match=r"t only rises; give start=0.8 or more"):
        Config.model_validate({"start": 0.8, "end": 0.2})
    linear = State(Config.model_validate({"adaptivity": 0.0}))
    linear.update(1.0, 1, 4)
    assert [linear.update(1.0, step, 4)["t"] for step in (2, 3, 4)] == [approx(t) for t in (0.7, 0.85, 1.0)]


def test_t_never_falls_and_survives_a_restart():
    """Whatever the losses do; a state loaded in the middle ends where the unbroken one does."""
    losses = (3 + 2 * torch.randn(50, generator=torch.Generator().manual_seed(0)).abs()).tolist()
    whole, first = State(Config.model_validate({})), State(Config.model_validate({}))
    seen = [whole.update(loss, i + 1, 50)["t"] for i, loss in enumerate(losses)]
    assert seen == sorted(seen) and seen[-1] == 1.0
    for i, loss in enumerate(losses[:20]):
        first.update(loss, i + 1, 50)
    second = State(Config.model_validate({}))
    second.load_state_dict(first.state_dict())
    assert [second.update(loss, i + 21, 50)["t"] for i, loss in enumerate(losses[20:])] == seen[20:]


def test_the_state_s_objective_takes_its_t():
    """Before any step the start, by the function itself."""
    student, teacher = normal(4, 7), normal(4, 7, seed=1)
    given = loss_and_gradient(
        State(Config.model_validate({"start": 0.25, "temperature": 2.0})).objective, student, teacher
    )
    wanted = loss_and_gradient(functools.partial(taid, t=0.25, temperature=2.0), student, teacher)
    torch.testing.assert_close(given, wanted)
    with pytest.raises(ValueError, match=r"t 1\.5: must lie in \[0, 1\]"):
        taid(student, teacher, torch.ones(4).bool(), t=1.5)
