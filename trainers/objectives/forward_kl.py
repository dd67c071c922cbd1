"""Forward KL: the student matches the teacher's softened distribution.

Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531, section 2. With drawn
entries: Anshumann et al. Sparse Logit Sampling. 2025. arXiv:2503.16870. Where the papers are silent: tokens weigh the
same, whatever their sequence; what a sparse signal has no entry for is one outcome more.

Axes: V vocabulary.
"""

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import Labelled, Signal, SparseLogProbs, drawn, outcomes, refuse_infinite, summed


class Config(Params):
    """`temperature` divides the logits of both."""

    temperature: float = Field(1.0, gt=0)


def forward_kl(student_logits: Tensor, signal: Signal, mask: Tensor, *, temperature: float = 1.0) -> SumCount:
    """KL(teacher || student) at `temperature`, times temperature squared, summed over the tokens under `mask`.

    Args:
        student_logits: (..., V), any float type; gradients flow here only.
        signal: of the same (...), of any kind but tokens: (..., V) logits, for instance. One with drawn entries gives
            the sum of - weight log q, whose mean over draws is KL plus the teacher's entropy and has KL's gradient.
        mask: (...) bool, True for tokens that count.
        temperature: above 0. The square keeps the gradient's size independent of it (section 2).

    Returns:
        Sum in nats and the number of tokens. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree, the temperature is not positive or not 1 for a sparse signal, or the divergence is
            infinite.
    """
    teacher = signal.teacher if isinstance(signal, Labelled) else signal
    if isinstance(teacher, SparseLogProbs) and teacher.draws:
        if temperature != 1:
            raise ValueError(f"temperature {temperature}: a drawn signal is of temperature 1; set temperature=1")
        log_q, weights = drawn(student_logits, teacher, mask)
        return SumCount(-(weights * log_q).sum(), mask.sum())
    log_q, log_p = outcomes(student_logits, teacher, mask, temperature)
    refuse_infinite(log_p, log_q, "forward_kl is infinite: the student gives probability 0 to a token of the teacher's")
    with torch.no_grad():
        p = log_p.exp()
        values = torch.linalg.vecdot(p, log_p.sub_(log_q))
    return SumCount(summed(log_q, values, p.neg_()) * temperature**2, mask.sum())
