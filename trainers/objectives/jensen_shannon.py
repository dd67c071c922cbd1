"""Generalised Jensen-Shannon divergence: between forward and reverse KL, and bounded.

Agarwal et al. On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes. 2023. arXiv:2306.13649,
section 2, equation of D_JSD(beta), whose beta is `weight_of_teacher` here. Departure: beta lies inside (0, 1), as the
divergence goes to 0 at both ends; trainers that put forward or reverse KL there jump. Where the paper is silent: the
temperature's square as in forward KL; what a sparse signal has no entry for is one outcome more.

Axes: V vocabulary.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import Signal, outcomes


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
    log_weights = math.log(weight_of_teacher), math.log1p(-weight_of_teacher)
    # Through the mixture no gradient comes: what p and q pass back by it is a constant in each row of logits.
    log_m = torch.logaddexp(log_p + log_weights[0], log_q.detach() + log_weights[1])
    of_teacher = (log_p.exp() * (log_p - log_m)).sum()
    of_student = (log_q.exp() * (log_q - log_m)).sum()
    value = weight_of_teacher * of_teacher + (1 - weight_of_teacher) * of_student
    return SumCount(value * temperature**2, mask.sum())
