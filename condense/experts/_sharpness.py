"""The two formulas of adaptive GSAM (arXiv:2203.08065, algorithm 1; arXiv:2102.11600, equation 8).

Axes: P parameters.
"""

from torch import Tensor

_LEAST_NORM = 1e-12  # of GSAM's code: no direction is uphill of a gradient of 0


def uphill(parameters: Tensor, gradient: Tensor, rho: float) -> Tensor:
    """(P,) the step that raises the loss most within adaptive radius `rho`, to first order: |step / theta| = rho."""
    norm = (parameters * gradient).norm()
    return rho / (norm + _LEAST_NORM) * (parameters.square() * gradient)


def without_orthogonal(there: Tensor, here: Tensor, alpha: float) -> Tensor:
    """(P,) the gradient uphill, less `alpha` times the part of the plain one that is orthogonal to it."""
    direction = there / (there.norm() + _LEAST_NORM)
    return there - alpha * (here - (here @ direction) * direction)
