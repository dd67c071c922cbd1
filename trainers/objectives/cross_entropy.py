"""Cross-entropy with given tokens: the student learns to write what the teacher wrote.

Kim, Rush. Sequence-Level Knowledge Distillation. 2016. arXiv:1606.07947, equation of section 3.2 with the teacher's
samples in place of its beam search's best. Where the paper is silent: tokens weigh the same, whatever their sequence.

Axes: V vocabulary.
"""

from torch import Tensor
from torch.nn import functional

from trainers.objectives import SumCount


def cross_entropy(student_logits: Tensor, signal: Tensor, mask: Tensor) -> SumCount:
    """-log p(token), summed over the tokens under `mask`.

    Args:
        student_logits: (..., V), any float type; half precision is summed in float32.
        signal: (...) int64, the token that follows each position; any value where `mask` is False.
        mask: (...) bool, True for tokens that count.

    Returns:
        Sum in nats and the number of tokens. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree.
    """
    if not student_logits.shape[:-1] == signal.shape == mask.shape:
        raise ValueError(
            f"logits {tuple(student_logits.shape)}, tokens {tuple(signal.shape)} and mask {tuple(mask.shape)}: "
            "cross_entropy needs (..., V), (...) and (...)"
        )
    logits = student_logits[mask]
    if logits.element_size() < 4:
        logits = logits.float()
    return SumCount(functional.cross_entropy(logits, signal[mask], reduction="sum"), mask.sum())
