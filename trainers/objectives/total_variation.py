"""Total variation: the share of a draft's tokens that speculative decoding would refuse.

Zhou et al. DistillSpec: Improving Speculative Decoding via Knowledge Distillation. 2023. arXiv:2310.08461, section 4.
1 - TV is the mean acceptance of Leviathan et al. 2022, arXiv:2211.17192, corollary 3.6. Where the papers are
silent: what a sparse signal has no entry for is one outcome more; no factor of the temperature, as this is a
probability.

Axes: V vocabulary.
"""

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import Signal, outcomes, summed


class Config(Params):
    """`temperature` divides the logits of both."""

    temperature: float = Field(1.0, gt=0)


def total_variation(student_logits: Tensor, signal: Signal, mask: Tensor, *, temperature: float = 1.0) -> SumCount:
    """Half the sum of |p - q|, summed over the tokens under `mask`.

    Args:
        student_logits: (..., V) of q, any float type; gradients flow here only.
        signal: of p and of the same (...), of any kind but tokens, without drawn entries.
        mask: (...) bool, True for tokens that count.
        temperature: above 0, at which drafts are drawn and judged.

    Returns:
        Sum of probabilities, at most 1 a token, and the number of tokens. The gradient jumps where p = q and is 0
        there. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree, the temperature is not positive, or a sparse signal is drawn or of another
            temperature.
    """
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    with torch.no_grad():
        q = log_q.exp()
        difference = log_p.exp_().sub_(q)
        values = torch.linalg.vector_norm(difference, ord=1, dim=-1) / 2
        slope = difference.sign_().mul_(q).div_(-2)
    return SumCount(summed(log_q, values, slope), mask.sum())
