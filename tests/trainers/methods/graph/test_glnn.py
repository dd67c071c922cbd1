"""Oracles: two classes in closed form; the gradient of KL, which is the difference of probabilities."""

import math

import pytest
import torch

from trainers.methods.graph import Task
from trainers.methods.graph.glnn import Config, glnn


def task_of(teacher: torch.Tensor) -> Task:
    return Task(
        edges=torch.tensor([[0], [1]]), labels=torch.tensor([1, 0]), train=torch.tensor([0]), teacher_logits=teacher
    )


def test_two_nodes_in_closed_form():
    """KL((.9, .1) || (.1, .9)) = .8 ln 9 at one node and 0 at the other; the label's cross-entropy is -ln .9."""
    teacher = torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64).log()
    student = torch.tensor([[0.1, 0.9], [0.5, 0.5]], dtype=torch.float64).log()
    distance = 0.4 * math.log(9)  # the mean of both nodes
    assert glnn(Config.model_validate({}), task_of(teacher))(student).item() == pytest.approx(distance, rel=1e-12)
    loss = glnn(Config.model_validate({"label_weight": 0.2}), task_of(teacher))(student)
    assert loss.item() == pytest.approx(0.2 * -math.log(0.9) + 0.8 * distance, rel=1e-12)


def test_the_gradient_is_the_difference_of_probabilities():
    """(q - p) over the number of nodes; none where the student says what the teacher says."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(2, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(glnn(Config.model_validate({}), task_of(teacher))(student), student)
    assert torch.allclose(gradient, (student.softmax(1) - teacher.softmax(1)) / 2, rtol=0, atol=1e-15)
    same = teacher.clone().requires_grad_()
    value = glnn(Config.model_validate({}), task_of(teacher))(same)
    (gradient,) = torch.autograd.grad(value, same)
    assert value.item() == pytest.approx(0, abs=1e-15) and gradient.abs().max() < 1e-16


def test_a_label_weight_is_a_share():
    with pytest.raises(ValueError, match="label_weight"):
        Config.model_validate({"label_weight": 2})
