"""Losses as pure functions of the student's logits and a signal: one file each, one function named like its file.

binary_cross_entropy     how much each class holds: encoders that classify
forward_kl               the teacher's whole distribution, none of it left out
jensen_shannon           between forward and reverse KL, by the teacher's weight
likelihood_matching      how likely pieces of a text are to a teacher of another tokenizer
negative_log_acceptance  the log of a draft's acceptance: from cold too
reverse_kl               what the teacher finds likely, with room to leave some out
supervised               the likelihood of given tokens: supervised fine-tuning on completions
taid                     a target that moves from the student to the teacher
total_variation          the share of a draft's tokens that would be refused
total_variation_pp       the same with a baseline and a scale of its gradient
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from trainers.signals import Signal


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

    def __call__(self, student_logits: Tensor, signal: Signal, mask: Tensor) -> SumCount:
        """The loss summed over the tokens or classes under the mask, and their number."""
        ...
