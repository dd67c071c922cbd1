"""From a graph network to an MLP that sees no graph: what a student learns from, on one graph of nodes; a file each.

ff_g2m       the neighbours' logits too, and how neighbours differ: low and high frequencies (FF-G2M)
glnn         the teacher's logits of every node (GLNN)
labels_alone  no teacher: the plain MLP that every other student is compared with
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a stage reads a Config without torch
    from torch import Tensor

NodeLoss = Callable[["Tensor"], "Tensor"]  # of the student's logits (V, C), as a scalar in nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is known of the graph when a student learns.

    Axes: V nodes, E edges, C classes.

    Attributes:
        edges: (2, E) int64, each edge once, none from a node to itself.
        labels: (V,) int64; only those of `train` are read.
        train: (N,) int64, positions of the nodes whose labels are learned from, one or more.
        teacher_logits: (V, C), without a gradient.
    """

    edges: "Tensor"
    labels: "Tensor"
    train: "Tensor"
    teacher_logits: "Tensor"


class NodeMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(self, config: Any, task: Task) -> NodeLoss:
        """The loss of a student's logits of all nodes; what depends on the teacher alone is computed once, here.

        It does not depend on the order in which nodes and edges are numbered.
        """
        ...
