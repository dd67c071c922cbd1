"""Losses as pure functions of the student's logits and a signal: one file each, one function named like its file.

binary_cross_entropy  how much each class holds: encoders that classify
cross_entropy         the likelihood of given tokens: supervised fine-tuning on completions
"""

from typing import NamedTuple, Protocol

from torch import Tensor


class SumCount(NamedTuple):
    """A loss before it is a mean: the loop adds both over micro-batches and processes, and divides once.

    Attributes:
        sum: scalar with a gradient, in the objective's unit.
        n: the number of what the sum runs over; a scalar without a gradient.
    """

    sum: Tensor
    n: Tensor


class Objective(Protocol):
    """The function that an objective's module is named after."""

    def __call__(self, student_logits: Tensor, signal: Tensor, mask: Tensor) -> SumCount:
        """The loss summed over the tokens or classes under the mask, and their number."""
        ...
