"""Reverse KL: the student keeps to what the teacher finds likely, and may leave some of it out.

Gu, Dong, Wei, Huang. MiniLLM: Knowledge Distillation of Large Language Models. 2023. arXiv:2306.08543, equation 1, for
every token at once over the whole vocabulary in place of a sampled one, as in Agarwal et al. On-Policy Distillation of
Language Models. 2023. arXiv:2306.13649, section 2. Where the papers are silent: the temperature's square as in
forward KL; what a sparse signal has no entry for is one outcome more.

Axes: V vocabulary.
"""

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import Signal, outcomes, refuse_infinite, summed


class Config(Params):
    """`temperature` divides the logits of both."""

    temperature: float = Field(1.0, gt=0)


def reverse_kl(student_logits: Tensor, signal: Signal, mask: Tensor, *, temperature: float = 1.0) -> SumCount:
    """KL(student || teacher) at `temperature`, times temperature squared, summed over the tokens under `mask`.

    Args:
        student_logits: (..., V), any float type; gradients flow here only.
        signal: of the same (...), of any kind but tokens, without drawn entries.
        mask: (...) bool, True for tokens that count.
        temperature: above 0.

    Returns:
        Sum in nats and the number of tokens. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree, the temperature is not positive or not 1 for a sparse signal, entries are drawn, or
            the divergence is infinite: the student gives some probability to a token whose teacher logit is -inf.
    """
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    refuse_infinite(log_q, log_p, "reverse_kl is infinite: the teacher gives probability 0 to a token of the student's")
    with torch.no_grad():
        q, log_ratio = log_q.exp(), log_p.neg_().add_(log_q)
        values = torch.linalg.vecdot(q, log_ratio)
    return SumCount(summed(log_q, values, q.mul_(log_ratio)) * temperature**2, mask.sum())
