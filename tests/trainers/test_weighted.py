import functools
import math
from typing import Any

import pytest
import torch
from pytest import approx

from datagen.contracts.errors import ParamsError
from tests.trainers.divergences import loss_and_gradient, normal
from trainers.objectives.forward_kl import forward_kl
from trainers.objectives.jensen_shannon import jensen_shannon
from trainers.objectives.supervised import supervised
from trainers.objectives.total_variation_pp import total_variation_pp
from trainers.signals import Labelled
from trainers.weighted import Part, combined, parse

STUDENT, TEACHER, TOKENS = normal(5, 7), normal(5, 7, seed=1), torch.arange(5)
SIGNAL = Labelled(TOKENS, TEACHER)
MASK = torch.tensor([True, True, False, True, True])


def test_three_ways_to_name_objectives():
    """Parts written by hand."""
    assert parse("forward_kl") == [Part("forward_kl", 1.0, {})]
    assert parse({"forward_kl": 0.9, "supervised": 1}) == [Part("forward_kl", 0.9, {}), Part("supervised", 1.0, {})]
    assert parse({"jensen_shannon": {"weight": 0.5, "weight_of_teacher": 0.1}, "taid": {"start": 0.2}}) == [
        Part("jensen_shannon", 0.5, {"weight_of_teacher": 0.1}),
        Part("taid", 1.0, {"start": 0.2}),
    ]


def test_one_objective_is_itself():
    """By its own function, with and without options."""
    for value, alone in (
        ("supervised", supervised),
        ("forward_kl", forward_kl),
        ({"forward_kl": {"temperature": 2.0}}, functools.partial(forward_kl, temperature=2.0)),
        ({"jensen_shannon": {"weight_of_teacher": 0.2}}, functools.partial(jensen_shannon, weight_of_teacher=0.2)),
    ):
        given, wanted = (loss_and_gradient(one, STUDENT, SIGNAL, MASK) for one in (combined(value), alone))
        torch.testing.assert_close(given, wanted, rtol=0, atol=0)


def test_several_are_the_weighted_sum_over_the_same_tokens():
    """Sums and gradients of the parts, added up here; the number of tokens is not."""
    given = loss_and_gradient(combined({"forward_kl": 0.9, "supervised": 0.25}), STUDENT, SIGNAL, MASK)
    kl, labels = (loss_and_gradient(one, STUDENT, SIGNAL, MASK) for one in (forward_kl, supervised))
    torch.testing.assert_close(given[0], 0.9 * kl[0] + 0.25 * labels[0])
    torch.testing.assert_close(given[2], 0.9 * kl[2] + 0.25 * labels[2])
    assert given[1] == 4


def test_taid_moves_and_goes_on_from_a_checkpoint():
    """Halfway through the steps t is at least halfway from 0.4 to 1; nothing else has a state."""
    objective = combined({"taid": 1.0, "supervised": 0.1})
    objective.update(2.0, 1, 10)
    said = objective.update(1.9, 5, 10)
    assert said["t"] == approx(0.7)
    again = combined({"taid": 1.0, "supervised": 0.1})
    again.load_state_dict(objective.state_dict())
    for one in (objective, again):
        assert one.update(1.8, 6, 10)["t"] == approx(0.76)
    given, wanted = (loss_and_gradient(one, STUDENT, SIGNAL, MASK) for one in (again, objective))
    torch.testing.assert_close(given, wanted, rtol=0, atol=0)
    assert not objective.needs_first_pass
    assert combined("forward_kl").state_dict() == {} and combined("forward_kl").update(1.0, 1, 2) == {}


def test_a_first_pass_sees_one_part_alone():
    """The mean of 1(p > q) under q over the step, by hand; the sum of both parts is back when the pass is over."""
    objective = combined({"total_variation_pp": {"baseline": "batch"}, "supervised": 0.5})
    assert objective.needs_first_pass

    def mean_loss() -> float:
        part = objective(STUDENT, SIGNAL, MASK)
        return part.sum.item() / part.n.item()

    objective.begin(mean_loss)
    q, p = STUDENT.softmax(-1)[MASK], TEACHER.softmax(-1)[MASK]
    mean = torch.where(p > q, q, 0).sum(-1).mean().item()
    assert objective.update(0.0, 1, 1) == {"mean_agreement": approx(mean, rel=1e-12)}
    given = loss_and_gradient(objective, STUDENT, SIGNAL, MASK)[2]
    of_both = [
        loss_and_gradient(one, STUDENT, SIGNAL, MASK)[2]
        for one in (functools.partial(total_variation_pp, mean=mean), supervised)
    ]
    torch.testing.assert_close(given, of_both[0] + 0.5 * of_both[1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("forward_lk", r"objective: no 'forward_lk'; there are forward_kl, .*supervised"),
        ("binary_cross_entropy", r"objective: binary_cross_entropy learns the labels of a text, for train_encoder"),
        ({"forward_kl": 0}, r"objective.forward_kl.weight: expected a number above 0 \(got 0\)"),
        ({"forward_kl": math.nan}, r"objective.forward_kl.weight: expected a number above 0 \(got nan\)"),
        ({"forward_kl": True}, r"objective.forward_kl.weight: .*\(got True\)"),
        ({"supervised": {"temperature": 2}}, r"objective.supervised: has a weight and no options \(got temperature\)"),
        ({"forward_kl": {"temprature": 2}}, r"objective.forward_kl.temprature: unknown parameter; did you mean temper"),
        ({"jensen_shannon": {"weight_of_teacher": 1}}, r"objective.jensen_shannon.weight_of_teacher: .*less than 1"),
        ({}, r"objective: expected a name, or a mapping such as .*\(got \{\}\)"),
        (3, r"objective: expected a name, or a mapping such as .*\(got 3\)"),
    ],
)
def test_what_cannot_be_is_named(value: Any, message: str):
    with pytest.raises(ParamsError, match=message):
        parse(value)
