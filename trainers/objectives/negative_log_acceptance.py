"""Negative log acceptance: total variation's gradient over the acceptance, so that a draft trains from cold.

LK Losses: Direct Acceptance Rate Optimization for Speculative Decoding. 2026. arXiv:2602.23881. Where the paper is
silent: what a sparse signal has no entry for is one outcome more.

Axes: V vocabulary.
"""

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import LOG_ZERO, Signal, outcomes, summed


class Config(Params):
    """`temperature` divides the logits of both."""

    temperature: float = Field(1.0, gt=0)


def negative_log_acceptance(
    student_logits: Tensor, signal: Signal, mask: Tensor, *, temperature: float = 1.0
) -> SumCount:
    """- log of the sum of min(p, q), summed over the tokens under `mask`.

    Args:
        student_logits: (..., V) of q, any float type; gradients flow here only.
        signal: of p and of the same (...), of any kind but tokens, without drawn entries.
        mask: (...) bool, True for tokens that count.
        temperature: above 0, at which drafts are drawn and judged.

    Returns:
        Sum in nats and the number of tokens. The gradient jumps where p = q and is 0 there. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree, the temperature is not positive, a sparse signal is drawn or of another
            temperature, or no token has a probability in both.
    """
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    with torch.no_grad():
        log_acceptance = torch.minimum(log_p, log_q).logsumexp(dim=-1)
    if bool((log_acceptance < LOG_ZERO / 2).any()):
        raise ValueError(
            "negative_log_acceptance is infinite: student and teacher have no token in common; give logits that are "
            "-inf to both models, or to neither"
        )
    with torch.no_grad():
        share = (
            (log_q - log_acceptance[:, None]).clamp_(max=0).exp_()
        )  # more than 1 only where p < q, which is left out
        counts = torch.heaviside(log_p.sub_(log_q), log_p.new_tensor(0.5))
    return SumCount(summed(log_q, -log_acceptance, share.mul_(counts).neg_()), mask.sum())
