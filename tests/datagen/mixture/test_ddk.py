"""Oracles: the formula as it is written where it is finite, one step by hand, fixed points in closed form."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pytest import approx

from datagen.contracts.errors import DataError
from datagen.mixture import Mix, Seen
from datagen.mixture.ddk import Config, ddk, initial, update

N = st.integers(1, 8)


def vectors(low: float, high: float, n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, n, elements=st.floats(low, high))


def seen(student: list[float], teacher: list[float], step: int = 0) -> Seen:
    names = [f"d{i}" for i in range(len(student))]
    return Seen(
        names=names, n_tokens=np.ones(len(names)), student_losses=np.array(student), reference_losses=np.array(teacher),
        step=step,
    )  # fmt: skip


def test_one_step_by_hand():
    """Ratios of perplexities 1 and 2 from uniform weights: psi in proportion 1 : e, then half of the uniform one.

    psi / sum = (1 / (1 + e), e / (1 + e)), so r = .25 + .5 / (1 + e) = 0.384470710684..., and the rest.
    """
    student, teacher = [3.0, 1.0 + math.log(2)], [3.0, 1.0]
    first = 0.25 + 0.5 / (1 + math.e)
    assert update([0.5, 0.5], student, teacher) == approx([first, 1 - first], abs=1e-12, rel=0)
    second = 0.9 * first / (first + (1 - first) * math.e) + 0.05
    assert update([first, 1 - first], student, teacher, smoothing=0.1) == approx([second, 1 - second], abs=1e-12, rel=0)
    assert initial(student, teacher) == approx([1 / (1 + math.e), math.e / (1 + math.e)], abs=1e-12, rel=0)


@given(st.data(), N, st.floats(0, 1))
def test_the_formula_as_it_is_written(data: st.DataObject, n: int, smoothing: float):
    """Perplexities and psi without a logarithm, for ratios up to e^4, whose exp is finite."""
    weights = data.draw(vectors(1e-3, 1, n))
    student, teacher = data.draw(vectors(0, 4, n)), data.draw(vectors(0, 4, n))
    psi = weights * np.exp(np.exp(student) / np.exp(teacher) - 50)  # a common factor cancels
    if (psi > 1e-300).all():
        direct = (1 - smoothing) * psi / psi.sum() + smoothing / n
        assert update(weights, student, teacher, smoothing=smoothing) == approx(direct, rel=1e-9, abs=1e-12)


@given(st.data(), N, st.floats(0, 1))
def test_weights_sum_to_one_keep_their_floor_and_follow_their_domains(data: st.DataObject, n: int, smoothing: float):
    """Whatever the losses, those of a broken student too."""
    weights = data.draw(vectors(1e-6, 1, n))
    student, teacher = data.draw(vectors(0, 1e6, n)), data.draw(vectors(0, 1e6, n))
    new = update(weights, student, teacher, smoothing=smoothing)
    assert new.sum() == approx(1, abs=1e-12)
    assert (new >= smoothing / n - 1e-15).all() and (new <= 1 - smoothing + smoothing / n + 1e-12).all()
    order = np.array(data.draw(st.permutations(range(n))))
    moved = update(weights[order], student[order], teacher[order], smoothing=smoothing)
    assert moved == approx(new[order], rel=1e-9, abs=1e-15)


@given(st.integers(1, 8), st.integers(-8000, 8000), st.floats(0, 1))
def test_equal_ratios_leave_uniform_weights(n: int, eighths: int, smoothing: float):
    """Whatever the teacher's own losses; gaps of whole eighths are the same float everywhere."""
    teacher = np.arange(1.0, n + 1)
    new = update(np.full(n, 1 / n), teacher + eighths / 8, teacher, smoothing=smoothing)
    assert new == approx(np.full(n, 1 / n), abs=1e-15)


def test_a_ratio_of_e_to_the_1000_does_not_overflow():
    """The one broken domain takes all but the floor; two equally broken ones share by their old weights."""
    assert update([0.25] * 4, [1002.0, 2, 2, 3], [2.0, 2, 2, 2]) == approx([0.625, 0.125, 0.125, 0.125], abs=1e-15)
    shared = update([0.1, 0.3, 0.6], [1002.0, 1002.0, 2], [2.0, 2, 2], smoothing=0)
    assert shared == approx([0.25, 0.75, 0], abs=1e-15)
    assert update([0.0, 1.0], [1e5, 1.0], [0.0, 1.0], smoothing=0.2).tolist() == approx([0.1, 0.9])
    assert update([0.5, 0.5], [0.0, 0.0], [1000.0, 2000.0]).tolist() == [0.5, 0.5]  # ratios of 0, both


@pytest.mark.parametrize(("smoothing", "expected"), [(0.5, 0.675), (0.1, None)])
def test_steady_state_of_two_domains(smoothing: float, expected: float | None):
    """Fixed point: x = (1 - s) x e / (1 - x + x e) + s / 2 is a quadratic; .675 for s = .5."""
    a, b, c = math.e - 1, 1 - (1 - smoothing) * math.e - smoothing / 2 * (math.e - 1), -smoothing / 2
    root = (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)
    weights = np.array([0.5, 0.5])
    for _ in range(2000):
        weights = update(weights, [2.0, 2 + math.log(2)], [2.0, 2.0], smoothing=smoothing)
    assert weights[1] == approx(root, abs=1e-9)
    if expected:
        assert weights.tolist() == approx([1 - expected, expected], abs=5e-4)


def test_rule_begins_with_initial_and_remembers_nothing_else():
    """Its Mix survives JSON and gives the same next step."""
    known = seen([3.0, 2.0, 2.5], [2.0, 1.8, 2.4])
    first = ddk(Config(), None, known)
    assert first == Mix(weights=tuple(initial([3.0, 2.0, 2.5], [2.0, 1.8, 2.4]).tolist()))
    again = Mix(**json.loads(json.dumps({"weights": first.weights, "memory": dict(first.memory)})))
    second = ddk(Config(mixture_smoothing=0.2), again, known)
    assert second.weights == approx(update(first.weights, [3, 2, 2.5], [2, 1.8, 2.4], smoothing=0.2).tolist())


def test_a_loss_that_is_none_is_named():
    with pytest.raises(DataError, match=r"student_losses: domain 'd1' has loss nan at step 30"):
        ddk(Config(), None, seen([1.0, math.nan], [1.0, 1.0], step=30))
    with pytest.raises(DataError, match=r"reference_losses: the rule needs the loss of every domain"):
        ddk(Config(), None, Seen(names=["a"], n_tokens=np.ones(1), student_losses=np.ones(1)))
    with pytest.raises(DataError, match=r"2 weights for the 1 domains d0"):
        ddk(Config(), Mix(weights=(0.5, 0.5)), seen([1.0], [1.0]))
    with pytest.raises(DataError, match=r"'d0' has 0 tokens"):
        ddk(Config(), None, Seen(names=["d0"], n_tokens=np.zeros(1)))


@pytest.mark.parametrize(
    ("weights", "student", "teacher", "smoothing", "message"),
    [
        ([0.5, 0.5], [1.0], [1.0], 0.5, "need one value of each"),
        ([], [], [], 0.5, "need one value of each"),
        ([-1.0, 2.0], [1.0, 1.0], [1.0, 1.0], 0.5, "not negative"),
        ([0.0, 0.0], [1.0, 1.0], [1.0, 1.0], 0.5, "not all 0"),
        ([0.5, 0.5], [math.inf, 1.0], [1.0, 1.0], 0.5, "finite"),
        ([0.5, 0.5], [1.0, 1.0], [1.0, 1.0], 1.5, r"smoothing must be in \[0, 1\] \(got 1.5\)"),
    ],
)
def test_values_out_of_range(
    weights: list[float], student: list[float], teacher: list[float], smoothing: float, message: str
):
    with pytest.raises(ValueError, match=message):
        update(weights, student, teacher, smoothing=smoothing)
