"""Supervised fine-tuning, the cross-entropy with given tokens: the student learns to write what the teacher wrote.

Kim, Rush. Sequence-Level Knowledge Distillation. 2016. arXiv:1606.07947, equation of section 3.2 with the teacher's
samples in place of its beam search's best. Where the paper is silent: tokens weigh the same, whatever their sequence.

Axes: V vocabulary.
"""

from torch import Tensor
from torch.nn import functional

from trainers.objectives import SumCount
from trainers.signals import Labelled, Signal


def supervised(student_logits: Tensor, signal: Signal, mask: Tensor) -> SumCount:
    """-log p(token), summed over the tokens under `mask`.

    Args:
        student_logits: (..., V), any float type; half precision is summed in float32.
        signal: (...) int64, the token that follows each position; any value where `mask` is False. Or Labelled, whose
            tokens are such.
        mask: (...) bool, True for tokens that count.

    Returns:
        Sum in nats and the number of tokens. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree, or the signal is no tokens.
    """
    tokens = signal.tokens if isinstance(signal, Labelled) else signal
    if not isinstance(tokens, Tensor) or tokens.is_floating_point():
        raise ValueError(f"supervised needs tokens (...) int64, this signal is {type(signal).__name__} of a teacher's")
    if not student_logits.shape[:-1] == tokens.shape == mask.shape:
        raise ValueError(
            f"logits {tuple(student_logits.shape)}, tokens {tuple(tokens.shape)} and mask {tuple(mask.shape)}: "
            "supervised needs (..., V), (...) and (...)"
        )
    if bool(mask.all()):
        logits, tokens = student_logits.flatten(0, -2), tokens.flatten()
    else:
        logits, tokens = student_logits[mask], tokens[mask]
    if logits.element_size() < 4:
        logits = logits.float()
    return SumCount(functional.cross_entropy(logits, tokens.to(logits.device), reduction="sum"), mask.sum())
