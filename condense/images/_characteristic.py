"""The distance of two samples by their characteristic functions.

Wang et al. Dataset Distillation with Neural Characteristic Function: A Minmax Perspective. 2025. arXiv:2502.20653,
equations 6 to 8.

Axes: F frequencies, B images, D units of the embedding.
"""

import torch
from torch import Tensor

_LEAST = 1e-12  # under the root, whose slope at 0 is infinite


def characteristic_distance(
    real: Tensor, condensed: Tensor, frequencies: Tensor, *, amplitude_weight: float, phase_weight: float
) -> Tensor:
    """Mean over the frequencies t of the root of a weighted sum of the differences in amplitude and in phase.

    With p(t) = mean exp(i t . x) over the real sample and q(t) over the condensed one, the two parts under the root are
    (|p| - |q|)^2 and 2 (|p| |q| - Re p q*); they add up to |p - q|^2.

    Args:
        real: (B, D).
        condensed: (B', D).
        frequencies: (F, D).
        amplitude_weight: of the first part, 0 or more; it says how spread the sample is.
        phase_weight: of the second, 0 or more; it says where the sample lies.

    Returns:
        A scalar, at least 1e-6 (the root of what keeps its slope finite).
    """
    p, q = _characteristic(real, frequencies), _characteristic(condensed, frequencies)
    amplitude = (_amplitude(p) - _amplitude(q)).square()
    phase = (p - q).square().sum(0) - amplitude  # as above, but of small differences keeps the digits
    return (amplitude_weight * amplitude + phase_weight * phase).clamp(min=_LEAST).sqrt().mean()


def _characteristic(sample: Tensor, frequencies: Tensor) -> Tensor:
    """(2, F): real and imaginary part."""
    angles = frequencies @ sample.T
    return torch.stack([angles.cos().mean(1), angles.sin().mean(1)])


def _amplitude(values: Tensor) -> Tensor:
    return values.square().sum(0).clamp(min=_LEAST).sqrt()
