"""Terms of the losses of node students. Each is a mean in nats, of the student's logits (V, C).

Axes: V nodes, E edges, C classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trainers.methods.graph import NodeLoss


def labels_term(student_logits: Tensor, labels: Tensor, train: Tensor) -> Tensor:
    """Cross-entropy with the labels (V,), mean over the nodes `train` (N,)."""
    return functional.cross_entropy(student_logits[train], labels[train])


def teacher_term(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student), mean over all nodes; 0 where both agree on every node."""
    return functional.kl_div(
        student_logits.log_softmax(dim=1), teacher_logits.log_softmax(dim=1), reduction="batchmean", log_target=True
    )


def low_frequency(edges: Tensor, teacher_logits: Tensor) -> NodeLoss:
    """KL(teacher at j || student at i), mean over all 2 E + V pairs: i and j joined, either way, or the same node.

    The student's part of the sum is linear in the teacher's probabilities, so these are added up once over each node's
    neighbours: a step costs as much as for `teacher_term`, whatever the number of edges.

    Args:
        edges: (2, E), each edge once.
        teacher_logits: (V, C), without a gradient.
    """
    log_probabilities = teacher_logits.log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    one, other = edges
    around = probabilities.index_add(0, one, probabilities[other]).index_add(0, other, probabilities[one])
    entropy = -(probabilities * log_probabilities).sum(dim=1)
    n_pairs = 2 * edges.shape[1] + len(teacher_logits)
    entropies = entropy.sum() + entropy[one].sum() + entropy[other].sum()

    def loss(student_logits: Tensor) -> Tensor:
        return (-(around * student_logits.log_softmax(dim=1)).sum() - entropies) / n_pairs

    return loss


def high_frequency(edges: Tensor, teacher_logits: Tensor, temperature: float) -> NodeLoss:
    """KL of softmax(|z_i - z_j| / temperature), teacher || student, mean over edges; z are logits.

    Either direction of an edge gives the same, so the mean over edges is that over both directions. Without an edge
    it is 0, with a gradient of 0.

    Args:
        edges: (2, E), each edge once.
        teacher_logits: (V, C), without a gradient.
        temperature: above 0.
    """
    one, other = edges
    n_edges = max(edges.shape[1], 1)

    def differences(logits: Tensor) -> Tensor:
        apart = (logits.index_select(0, one) - logits.index_select(0, other)).abs()
        return (apart / temperature).log_softmax(dim=1)

    target = differences(teacher_logits)

    def loss(student_logits: Tensor) -> Tensor:
        return functional.kl_div(differences(student_logits), target, reduction="sum", log_target=True) / n_edges

    return loss


def weighted(label_weight: float, labels: Tensor, teacher: Tensor) -> Tensor:
    """label_weight * labels + (1 - label_weight) * teacher; a part of weight 0 is left out, even an infinite one."""
    if label_weight == 0:
        return teacher
    return labels if label_weight == 1 else torch.lerp(teacher, labels, label_weight)
