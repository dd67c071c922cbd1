"""GLNN: an MLP learns a graph network's logits of every node, labelled or not.

Zhang, Liu, Sun, Shah. Graph-less Neural Networks: Teaching Old MLPs New Tricks via Distillation. 2021.
arXiv:2110.08727: label_weight * cross-entropy + (1 - label_weight) * KL(teacher || student), at temperature 1; both
terms are means, over the labelled nodes and over all nodes, as in its code.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.params import Params
from trainers.methods.graph import NodeLoss, Task

if TYPE_CHECKING:
    from torch import Tensor


class Config(Params):
    """`label_weight` is lambda: 0, the default of the authors' code, takes no notice of labels, 1 of no teacher."""

    method: Literal["glnn"] = "glnn"
    label_weight: float = Field(0.0, ge=0, le=1)


def glnn(config: Config, task: Task) -> NodeLoss:
    """See `trainers.methods.graph.NodeMethod`."""
    from trainers.methods.graph._terms import labels_term, teacher_term, weighted

    def loss(student_logits: "Tensor") -> "Tensor":
        labels = labels_term(student_logits, task.labels, task.train)
        return weighted(config.label_weight, labels, teacher_term(student_logits, task.teacher_logits))

    return loss
