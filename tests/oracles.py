"""Slow, obvious references. Axes: V vocabulary, N positions."""

import torch
from torch import Tensor


def forward_kl(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """KL(teacher || student), summed over positions, every token of the vocabulary: sum of p (log p - log q)."""
    p = teacher_log_probs.exp()
    terms = torch.where(p > 0, p * (teacher_log_probs - student_logits.log_softmax(dim=-1)), 0.0)
    return terms.sum()


def forward_kl_gradient(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """(N, V): its gradient by the logits of each position, by autograd."""
    logits = student_logits.clone().requires_grad_()
    forward_kl(logits, teacher_log_probs).backward()
    assert logits.grad is not None
    return logits.grad


def sparse_gradient(student_logits: Tensor, weights: Tensor) -> Tensor:
    """(N, V): gradient of - sum of weights * log q, by autograd; `weights` (N, V) stand for the teacher's."""
    logits = student_logits.clone().requires_grad_()
    (-(weights * logits.log_softmax(dim=-1)).sum()).backward()
    assert logits.grad is not None
    return logits.grad
