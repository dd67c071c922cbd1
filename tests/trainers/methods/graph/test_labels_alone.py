"""Oracle: cross-entropy by hand; nodes without a label that is learned from change nothing."""

import math

import pytest
import torch

from trainers.methods.graph import Task
from trainers.methods.graph.labels_alone import Config, labels_alone


def test_the_labelled_nodes_alone_count():
    """-ln .8 and -ln .5 on two nodes; the third's label, teacher and logits are nobody's business."""
    student = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64).log().requires_grad_()
    task = Task(
        edges=torch.tensor([[0, 1], [1, 2]]), labels=torch.tensor([0, 1, -1]), train=torch.tensor([0, 1]),
        teacher_logits=torch.full((3, 2), math.nan),
    )  # fmt: skip
    value = labels_alone(Config(), task)(student)
    assert value.item() == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2, rel=1e-12)
    (gradient,) = torch.autograd.grad(value, student)
    assert not gradient[2].any()
    assert gradient[0].tolist() == pytest.approx([-0.1, 0.1])
