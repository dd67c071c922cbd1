"""The labels alone: cross-entropy on the labelled nodes, as the teacher learns too.

Source: the plain MLP of GLNN (Zhang et al. 2021, arXiv:2110.08727) and FF-G2M (arXiv:2305.10758), their baseline.
"""

from typing import TYPE_CHECKING, Literal

from datagen.contracts.params import Params
from trainers.methods.graph import NodeLoss, Task

if TYPE_CHECKING:
    from torch import Tensor


class Config(Params):
    """Nothing to set."""

    method: Literal["labels_alone"] = "labels_alone"


def labels_alone(config: Config, task: Task) -> NodeLoss:
    """See `trainers.methods.graph.NodeMethod`."""
    from trainers.methods.graph._terms import labels_term

    def loss(student_logits: "Tensor") -> "Tensor":
        return labels_term(student_logits, task.labels, task.train)

    return loss
