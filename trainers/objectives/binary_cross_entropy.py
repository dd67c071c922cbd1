"""Binary cross-entropy of every class: the student says of each label whether it holds, or how much.

Goodfellow, Bengio, Courville. Deep Learning. 2016, section 6.2.2.2, for each class of its own; with soft labels in
place of 0 and 1 as in Hinton, Vinyals, Dean. 2015. arXiv:1503.02531, section 2. As Emo Pillars trains its encoders,
arXiv:2504.16856, section 4. Where the papers are silent: rows and classes weigh the same.

Axes: C classes.
"""

from torch import Tensor
from torch.nn import functional

from trainers.objectives import SumCount


def binary_cross_entropy(
    student_logits: Tensor, signal: Tensor, mask: Tensor, *, positive_weight: Tensor | None = None
) -> SumCount:
    """-(w y log p + (1 - y) log(1 - p)) with p the sigmoid of a logit, summed over rows and classes under `mask`.

    Args:
        student_logits: (..., C), any float type; half precision is summed in float32.
        signal: (..., C) in [0, 1], how much each class holds; any value where `mask` is False.
        mask: (..., C) bool, True for what counts.
        positive_weight: (C,) w, what a class that holds counts beside one that does not; all 1 if None.

    Returns:
        Sum in nats and the number of entries under the mask; weights do not change the number. An empty mask gives
        (0, 0).

    Raises:
        ValueError: shapes disagree.
    """
    n_classes = student_logits.shape[-1:]
    if not student_logits.shape == signal.shape == mask.shape:
        raise ValueError(
            f"logits {tuple(student_logits.shape)}, signal {tuple(signal.shape)} and mask {tuple(mask.shape)}: "
            "binary_cross_entropy needs (..., C) thrice"
        )
    if positive_weight is not None and positive_weight.shape != n_classes:
        raise ValueError(f"positive_weight {tuple(positive_weight.shape)}: needs {tuple(n_classes)}, one a class")
    logits = student_logits[mask]
    if logits.element_size() < 4:
        logits = logits.float()
    weight = None if positive_weight is None else positive_weight.to(logits).expand(mask.shape)[mask]
    losses = functional.binary_cross_entropy_with_logits(
        logits, signal[mask].to(logits), pos_weight=weight, reduction="sum"
    )
    return SumCount(losses, mask.sum())
