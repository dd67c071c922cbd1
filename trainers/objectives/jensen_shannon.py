"""Generalised Jensen-Shannon divergence: between forward and reverse KL, and bounded.

Agarwal et al. On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes. 2023. arXiv:2306.13649,
section 2, equation of D_JSD(beta), whose beta is `weight_of_teacher` here. Departure: beta lies inside (0, 1), as the
divergence goes to 0 at both ends; trainers that put forward or reverse KL there jump. Where the paper is silent: the
temperature's square as in forward KL; what a sparse signal has no entry for is one outcome more.

Axes: V vocabulary.
"""

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import Signal, outcomes, summed


class Config(Params):
    """`weight_of_teacher` is the teacher's share of the mixture, and of the loss; `temperature` divides the logits."""

    weight_of_teacher: float = Field(0.5, gt=0, lt=1)
    temperature: float = Field(1.0, gt=0)


def jensen_shannon(
    student_logits: Tensor, signal: Signal, mask: Tensor, *, weight_of_teacher: float = 0.5, temperature: float = 1.0
) -> SumCount:
    """W KL(p || m) + (1 - w) KL(q || m) with m = w p + (1 - w) q, times temperature squared, summed under `mask`.

    Args:
        student_logits: (..., V) of q, any float type; gradients flow here only.
        signal: of p and of the same (...), of any kind but tokens, without drawn entries.
        mask: (...) bool, True for tokens that count.
        weight_of_teacher: w, inside (0, 1). Divided by w and as w goes to 0 it is forward KL; divided by 1 - w and as w
            goes to 1, reverse KL.
        temperature: above 0.

    Returns:
        Sum in nats, at most ln 2 a token at w = 1/2 and temperature 1, and the number of tokens. An empty mask gives
        (0, 0).

    Raises:
        ValueError: shapes disagree, w or the temperature is out of range, or a sparse signal is drawn or of another
            temperature.
    """
    if not 0 < weight_of_teacher < 1:
        raise ValueError(
            f"weight_of_teacher {weight_of_teacher}: must lie inside (0, 1); its ends are forward_kl and reverse_kl"
        )
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    with torch.no_grad():
        p, q = log_p.exp(), log_q.exp()
        log_m = torch.lerp(q, p, weight_of_teacher).clamp_(min=torch.finfo(q.dtype).tiny).log_()
        of_teacher = torch.linalg.vecdot(p, log_p.sub_(log_m))
        log_ratio = log_m.neg_().add_(log_q)
        of_student = torch.linalg.vecdot(q, log_ratio)
        values = weight_of_teacher * of_teacher + (1 - weight_of_teacher) * of_student
        slope = q.mul_(log_ratio).mul_(1 - weight_of_teacher)  # through the mixture the rest is a constant times q
    return SumCount(summed(log_q, values, slope) * temperature**2, mask.sum())
