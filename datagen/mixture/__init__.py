"""How much of each domain a student sees: one rule a file, from the domains' sizes or from how the student does.

ddk             by how far the student trails its teacher, domain by domain, smoothed (arXiv:2407.16154)
doremi          by how far a proxy trails a reference of its size; the mean over updates (arXiv:2305.10429)
online_mixing   a bandit that is rewarded with the training loss (arXiv:2312.02406)
proportional    by the tokens of each domain
regression_mix  the best mix under a law fitted to short proxy runs (arXiv:2407.01492, arXiv:2602.12237)
temperature     by the tokens, flattened (arXiv:1907.05019)
uniform         every domain alike

A rule is asked once for the weights to begin with, and then every so many steps for new ones. What it must remember
between two calls is in the `Mix` that it gives, as plain numbers, so that a killed run goes on where it was. Each
module says in `NEEDS` which of the fields of `Seen` it reads besides the sizes: a trainer measures no more than that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class ProxyRun:
    """One short run of a small model on a fixed mix.

    Attributes:
        weights: (N,) float64, what the run drew its batches by; they sum to 1.
        losses: (N,) float64, held-out loss of each domain at its end, in nats per token.
    """

    weights: "np.ndarray"
    losses: "np.ndarray"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the domains when weights are asked for; arrays are float64, losses in nats per token.

    Attributes:
        names: of the N domains, in the order of every array.
        n_tokens: (N,), tokens that each has to train on.
        student_losses: (N,), the student's mean held-out loss.
        reference_losses: (N,), likewise of the teacher (ddk) or of the reference proxy (doremi).
        trained_losses: (N,), mean training loss of the batches drawn of each domain since the last call, nan where
            none was.
        step: optimiser steps done, from 0.
        n_steps: that the run will do.
        runs: finished proxy runs.
    """

    names: Sequence[str]
    n_tokens: "np.ndarray"
    student_losses: "np.ndarray | None" = None
    reference_losses: "np.ndarray | None" = None
    trained_losses: "np.ndarray | None" = None
    step: int = 0
    n_steps: int = 0
    runs: Sequence[ProxyRun] = ()


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Weights, and what their rule remembers; both become JSON as they are.

    Attributes:
        weights: (N,) in the order of the domains, each in [0, 1]; they sum to 1.
        memory: name to numbers, for the rule alone; but `mean`, (N,), where a rule has it, is the mix that its paper
            trains on in the end, in place of the last weights.
    """

    weights: tuple[float, ...]
    memory: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])


class MixRule(Protocol):
    """The function that a rule's module is named after."""

    def __call__(self, config: Any, mix: Mix | None, seen: Seen) -> Mix:
        """The weights to draw by from now on.

        Args:
            config: the rule's Config.
            mix: what the rule gave last; None before the first step.
            seen: what is known of the domains now.

        Raises:
            DataError: a field that the rule needs is missing, of another length, or no number.
        """
        ...
