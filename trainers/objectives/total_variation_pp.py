"""TVD++: total variation's policy gradient with a baseline and a scale, so that rare agreement weighs more.

Goel et al. Direct Alignment of Draft Model for Speculative Decoding with Chat-Fine-Tuned LLMs. 2024. arXiv:2403.00858,
section of TVD++. The gradient of total variation is - E_q[1(p > q) grad log q]; TVD++ puts (r - mean) / deviation in
place of r = 1(p > q). The paper does not say over what mean and deviation run: over q at each token (`token`), or over
q and all tokens of an optimizer step (`batch`). Departure: the expectation over q is taken over the vocabulary and not
from samples. Where the paper is silent: what a sparse signal has no entry for is one outcome more.

Axes: V vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import Signal, outcomes, summed


class Config(Params):
    """`baseline` says over what mean and deviation run; `temperature` divides the logits of both."""

    baseline: Literal["token", "batch"] = "token"
    temperature: float = Field(1.0, gt=0)


def total_variation_pp(
    student_logits: Tensor, signal: Signal, mask: Tensor, *, mean: float | None = None, temperature: float = 1.0
) -> SumCount:
    """Total variation under `mask`, whose gradient is the sum of - E_q[(r - mean) / deviation grad log q].

    Args:
        student_logits: (..., V) of q, any float type; gradients flow here only.
        signal: of p and of the same (...), of any kind but tokens, without drawn entries.
        mask: (...) bool, True for tokens that count.
        mean: of r over the whole optimizer step, as `agreement` gives it; each token's own if None. r is 0 or 1, so its
            deviation is sqrt(mean (1 - mean)); where that is 0 there is no gradient.
        temperature: above 0, at which drafts are drawn and judged.

    Returns:
        Sum of total variation, which is what falls as this is learned, and the number of tokens. An empty mask gives
        (0, 0).

    Raises:
        ValueError: shapes disagree, the temperature is not positive, or a sparse signal is drawn or of another
            temperature.
    """
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    with torch.no_grad():
        q, p = log_q.exp(), log_p.exp()
        r = (log_p > log_q).to(q)
        means = (q * r).sum(dim=-1, keepdim=True) if mean is None else q.new_full((len(q), 1), mean)
        deviations = (means * (1 - means)).clamp(min=0).sqrt()
        advantages = torch.where(deviations > 0, (r - means) / deviations, 0.0)
        values = (p - q).abs().sum(dim=-1) / 2
    return SumCount(summed(log_q, values, -q * advantages), mask.sum())


def agreement(student_logits: Tensor, signal: Signal, mask: Tensor, *, temperature: float = 1.0) -> SumCount:
    """The sum over the tokens under `mask` of the share of q where p > q: E_q[r]; see `total_variation_pp`."""
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    return SumCount(torch.where(log_p > log_q, log_q.exp(), 0.0).sum(), mask.sum())


class State:
    """The mean of r over the optimizer step that is on, for `baseline=batch`: the same for any split of its rows."""

    def __init__(self, config: Config) -> None:
        """Before the first step."""
        self.needs_first_pass = config.baseline == "batch"
        self._mean: float | None = None
        self._measures = False
        self._temperature = config.temperature

    def begin(self, mean_loss: Callable[[], float]) -> None:
        """Take the mean of r over a step's tokens; `mean_loss` runs the objective over all of them, all processes'."""
        self._measures = True
        try:
            self._mean = mean_loss()
        finally:
            self._measures = False

    def objective(self, student_logits: Tensor, signal: Signal, mask: Tensor) -> SumCount:
        """`total_variation_pp` with the step's mean; `agreement` while that is being taken."""
        if self._measures:
            return agreement(student_logits, signal, mask, temperature=self._temperature)
        return total_variation_pp(student_logits, signal, mask, mean=self._mean, temperature=self._temperature)

    def update(self, loss: float, step: int, n_steps: int) -> dict[str, float]:
        """The step's mean, for its record; nothing where every token has its own."""
        return {} if self._mean is None else {"mean_agreement": self._mean}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a step's mean is of that step alone."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""
