"""TAID: the target moves from the student itself to the teacher as training goes on.

Shing et al. TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language Models.
2025. arXiv:2501.16937, equations 3 to 6 and algorithm 1. Departure from the authors' code, which updates t once a
micro-batch from one process's loss: once an optimizer step, from the mean over all of it. Where the paper is silent:
temperature 1 in both, or the square as in forward KL; with a sparse signal the outcomes' log-probs are interpolated,
all tokens without an entry as one.

Axes: V vocabulary.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from datagen.contracts.params import Params
from trainers.objectives import SumCount
from trainers.signals import LOG_ZERO, Signal, outcomes, refuse_infinite, summed


class Config(Params):
    """`start` and `end` of t, by the share of steps done at least; `adaptivity` is alpha, `momentum` beta."""

    start: float = Field(0.4, ge=0, le=1)  # the authors' code, of table 1's runs
    end: float = Field(1.0, ge=0, le=1)
    adaptivity: float = Field(5e-4, ge=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    temperature: float = Field(1.0, gt=0)

    @field_validator("end")
    @classmethod
    def _is_not_before(cls, value: float, info: ValidationInfo) -> float:
        if value < (start := info.data.get("start", 0.0)):
            raise ValueError(f"t only rises; give start={start:g} or more")
        return value


def taid(student_logits: Tensor, signal: Signal, mask: Tensor, *, t: float = 1.0, temperature: float = 1.0) -> SumCount:
    """KL(p_t || q) times temperature squared, p_t = softmax((1 - t) z_student + t z_teacher), summed under `mask`.

    Args:
        student_logits: (..., V) of q, any float type; p_t takes them as constants.
        signal: of the same (...), of any kind but tokens, without drawn entries.
        mask: (...) bool, True for tokens that count.
        t: in [0, 1]. At 0 loss and gradient are 0, at 1 they are forward KL's.
        temperature: above 0, divides the logits of both.

    Returns:
        Sum in nats and the number of tokens. An empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree, t or the temperature is out of range, a sparse signal is drawn or of another
            temperature, or the divergence is infinite.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t {t}: must lie in [0, 1]")
    log_q, log_p = outcomes(student_logits, signal, mask, temperature)
    with torch.no_grad():
        target = torch.lerp(log_q, log_p, t)
        if t > 0 and log_p.numel() and float(log_p.amin()) <= LOG_ZERO:
            target = target.masked_fill(log_p <= LOG_ZERO, -torch.inf)  # an infinite logit times any t
        target = target.log_softmax(dim=-1).clamp(min=LOG_ZERO) if t > 0 else log_q.detach()
    refuse_infinite(target, log_q, "taid is infinite: the student gives probability 0 to a token of the teacher's")
    with torch.no_grad():
        p = target.exp()
        values = torch.linalg.vecdot(p, target - log_q)
    return SumCount(summed(log_q, values, p.neg_()) * temperature**2, mask.sum())


class State:
    """t and what moves it: at least linear in the share of steps done, faster while the loss falls (equations 5, 6)."""

    needs_first_pass = False

    def __init__(self, config: Config) -> None:
        """Before the first step."""
        self._config = config
        self.t = config.start
        self._momentum = 0.0
        self._previous: float | None = None

    def objective(self, student_logits: Tensor, signal: Signal, mask: Tensor) -> SumCount:
        """`taid` at the present t."""
        return taid(student_logits, signal, mask, t=self.t, temperature=self._config.temperature)

    def update(self, loss: float, step: int, n_steps: int) -> dict[str, float]:
        """Move t after an optimizer step.

        Args:
            loss: the mean over the step's tokens, of all micro-batches and processes.
            step: how many steps are done, from 1.
            n_steps: of the training.

        Returns:
            `t`, as the next step takes it.
        """
        config, previous = self._config, self._previous
        self._previous = loss
        if previous is not None:  # the first step has nothing to compare with
            change = (previous - loss) / (previous + 1e-15) if previous else 0.0  # no loss yet, at t = 0; the guard
            self._momentum = config.momentum * self._momentum + (1 - config.momentum) * change
            faster = self.t + config.adaptivity * _sigmoid(self._momentum) * (1 - self.t)
            linear = config.start + (config.end - config.start) * step / n_steps
            self.t = min(config.end, max(linear, faster))
        return {"t": self.t}

    def state_dict(self) -> dict[str, Any]:
        """What the next update needs."""
        return {"t": self.t, "momentum": self._momentum, "previous": self._previous}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`'s."""
        self.t, self._momentum, self._previous = state["t"], state["momentum"], state["previous"]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
