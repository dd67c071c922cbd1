"""Oracles: a path of three nodes by hand; loops over every pair, both ways; GLNN where no nodes are joined; limits."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainers.methods.graph import Task
from trainers.methods.graph._terms import high_frequency, low_frequency
from trainers.methods.graph.ff_g2m import Config, ff_g2m
from trainers.methods.graph.glnn import Config as GlnnConfig
from trainers.methods.graph.glnn import glnn
from trainers.methods.graph.labels_alone import Config as LabelsConfig
from trainers.methods.graph.labels_alone import labels_alone

EDGES = torch.tensor([[0, 0, 1, 2, 3, 1], [1, 2, 2, 4, 5, 5]])
NONE = torch.zeros(2, 0, dtype=torch.int64)


def random_task(edges: Tensor = EDGES, n_classes: int = 3, seed: int = 0) -> tuple[Task, Tensor]:
    """Six nodes, of which three are labelled, in float64; and a student's logits."""
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (2 * torch.randn(6, n_classes, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 2, 1, 0, 1, 2])
    task = Task(edges=edges, labels=labels, train=torch.tensor([0, 1, 4]), teacher_logits=teacher)
    return task, student.requires_grad_()


def value_and_gradient(loss: Any, student: Tensor) -> tuple[float, Tensor]:
    value = loss(student)
    (gradient,) = torch.autograd.grad(value, student)
    return value.item(), gradient


def config_of(**settings: Any) -> Config:
    return Config.model_validate(settings)


def kl(target: Tensor, given: Tensor) -> float:
    """Of two vectors of logits."""
    p, q = target.softmax(0), given.detach().softmax(0)
    return float((p * (p / q).log()).sum())


def test_a_path_of_three_nodes_by_hand():
    """The student knows nothing: KL to uniform is ln 2 less the entropy; 7 pairs with the nodes themselves, 2 edges."""
    teacher = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64).log()
    edges = torch.tensor([[0, 1], [1, 2]])
    student = torch.zeros(3, 2, dtype=torch.float64)
    of_an_end = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)  # 0.368064; that of the middle is 0
    low = 4 * of_an_end / 7  # each end is its own and the middle's neighbour
    share = 1.8 / 6.8  # |ln .9 - ln .5| = ln 1.8, |ln .1 - ln .5| = ln 5
    high = math.log(2) + share * math.log(share) + (1 - share) * math.log(1 - share)
    assert low_frequency(edges, teacher)(student).item() == pytest.approx(low, rel=1e-12)
    assert high_frequency(edges, teacher, 1.0)(student).item() == pytest.approx(high, rel=1e-12)
    task = Task(edges=edges, labels=torch.tensor([0, 0, 1]), train=torch.tensor([0, 2]), teacher_logits=teacher)
    loss = ff_g2m(config_of(label_weight=0.25, temperature=1.0), task)
    assert loss(student).item() == pytest.approx(0.25 * math.log(2) + 0.75 * (low + high), rel=1e-12)
    assert low == pytest.approx(0.210322, abs=1e-6) and high == pytest.approx(0.115225, abs=1e-6)


def test_every_pair_in_a_loop():
    """Both directions of each edge, and each node with itself for the low frequencies; labels by their definition."""
    task, student = random_task()
    directed = [*zip(*EDGES.tolist(), strict=True)]
    directed += [(j, i) for i, j in directed]
    teacher, temperature = task.teacher_logits, 1.3
    low = [kl(teacher[j], student[i]) for i, j in [*directed, *((v, v) for v in range(6))]]
    high = [
        kl((teacher[i] - teacher[j]).abs() / temperature, (student[i] - student[j]).abs() / temperature)
        for i, j in directed
    ]
    labels = [-float(student[v].log_softmax(0)[task.labels[v]]) for v in (0, 1, 4)]
    mean_low, mean_high, mean_labels = (sum(some) / len(some) for some in (low, high, labels))
    for parts, expected in (("both", mean_low + mean_high), ("low", mean_low), ("high", mean_high)):
        config = config_of(label_weight=0.4, temperature=temperature, parts=parts)
        assert ff_g2m(config, task)(student).item() == pytest.approx(0.4 * mean_labels + 0.6 * expected, rel=1e-12)


@pytest.mark.parametrize("label_weight", [0.0, 0.3, 1.0])
def test_without_edges_it_is_glnn(label_weight: float):
    """A graph of self-loops alone has no edge: the same loss and gradient, to float64's precision, and no NaN."""
    task, student = random_task(NONE)
    value, gradient = value_and_gradient(ff_g2m(config_of(label_weight=label_weight), task), student)
    expected, expected_gradient = value_and_gradient(
        glnn(GlnnConfig.model_validate({"label_weight": label_weight}), task), student
    )
    assert value == pytest.approx(expected, rel=1e-13)
    assert torch.allclose(gradient, expected_gradient, rtol=0, atol=1e-15)


def test_high_frequencies_without_an_edge_are_nought():
    task, student = random_task(NONE)
    value, gradient = value_and_gradient(high_frequency(NONE, task.teacher_logits, 1.5), student)
    assert value == 0 and not gradient.any()


def test_numbering_changes_nothing():
    """Nodes permuted, edges in another order and turned round."""
    task, student = random_task()
    order = torch.tensor([3, 5, 0, 4, 1, 2])
    place = order.argsort()
    moved = Task(
        edges=place[EDGES].flip(0)[:, [5, 2, 0, 1, 4, 3]], labels=task.labels[order], train=place[task.train],
        teacher_logits=task.teacher_logits[order],
    )  # fmt: skip
    value, gradient = value_and_gradient(ff_g2m(config_of(), task), student)
    other = student.detach()[order].requires_grad_()
    moved_value, moved_gradient = value_and_gradient(ff_g2m(config_of(), moved), other)
    assert moved_value == pytest.approx(value, rel=1e-13)
    assert torch.allclose(moved_gradient, gradient[order], rtol=0, atol=1e-14)


def test_label_weight_1_is_the_labels_alone():
    task, student = random_task()
    value, gradient = value_and_gradient(ff_g2m(config_of(label_weight=1), task), student)
    expected, expected_gradient = value_and_gradient(labels_alone(LabelsConfig(), task), student)
    assert value == expected and torch.equal(gradient, expected_gradient)


def test_label_weight_0_reads_no_label():
    task, student = random_task()
    other = Task(edges=EDGES, labels=1 - task.labels.clamp(max=1), train=torch.tensor([3]),
                 teacher_logits=task.teacher_logits)  # fmt: skip
    assert ff_g2m(config_of(label_weight=0), task)(student) == ff_g2m(config_of(label_weight=0), other)(student)


def test_high_temperatures_compare_the_differences_themselves():
    """To second order, KL is half the variance over classes of what the exponents differ by, over the square."""
    task, student = random_task()
    temperature = 1e4
    teacher_apart, apart = ((z[EDGES[0]] - z[EDGES[1]]).abs() for z in (task.teacher_logits, student.detach()))
    expected = (teacher_apart - apart).var(dim=1, correction=0).mean() / 2
    value = high_frequency(EDGES, task.teacher_logits, temperature)(student) * temperature**2
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)


def test_low_temperatures_compare_the_classes_that_differ_most():
    """The student's distribution is one class's: KL is the log-odds of the teacher's class, over temperature, large."""
    task, student = random_task()
    temperature = 1e-3
    teacher_apart, apart = ((z[EDGES[0]] - z[EDGES[1]]).abs() for z in (task.teacher_logits, student.detach()))
    most = teacher_apart.argmax(dim=1, keepdim=True)
    expected = (apart.max(dim=1).values - apart.gather(1, most)[:, 0]).mean()
    value = high_frequency(EDGES, task.teacher_logits, temperature)(student) * temperature
    assert value.item() == pytest.approx(expected.item(), rel=1e-2)


def test_a_student_like_its_teacher_keeps_what_neighbours_differ_by():
    """High is 0; low is the mean KL between neighbours, which no student can bring to 0."""
    task, _ = random_task()
    teacher = task.teacher_logits
    assert high_frequency(EDGES, teacher, 1.2)(teacher).item() == pytest.approx(0, abs=1e-15)
    left = sum(kl(teacher[a], teacher[b]) + kl(teacher[b], teacher[a]) for a, b in zip(*EDGES.tolist(), strict=True))
    assert low_frequency(EDGES, teacher)(teacher).item() == pytest.approx(left / 18, rel=1e-12)


def test_gradients_by_finite_differences():
    task, student = random_task()
    assert torch.autograd.gradcheck(ff_g2m(config_of(label_weight=0.3), task), (student,))


def test_single_precision_stays_close():
    task, student = random_task()
    single = Task(edges=EDGES, labels=task.labels, train=task.train, teacher_logits=task.teacher_logits.float())
    expected = ff_g2m(config_of(), task)(student)
    assert ff_g2m(config_of(), single)(student.float()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_label_weight_is_a_share():
    for settings in ({"label_weight": 1.5}, {"label_weight": -0.1}, {"temperature": 0}, {"parts": "middle"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            Config.model_validate(settings)


def test_the_best_student_of_low_frequencies_says_what_its_neighbours_say():
    """The minimiser of the low term is the mean of the teacher's probabilities over a node and its neighbours."""
    task, _ = random_task()
    probabilities = task.teacher_logits.softmax(dim=1)
    around = functional.one_hot(torch.arange(6), 6).double()
    around[EDGES[0], EDGES[1]] = around[EDGES[1], EDGES[0]] = 1
    best = (around @ probabilities / around.sum(dim=1, keepdim=True)).log().requires_grad_()
    _, gradient = value_and_gradient(low_frequency(EDGES, task.teacher_logits), best)
    assert gradient.abs().max() < 1e-15
