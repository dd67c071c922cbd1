"""What a language model says of given tokens: how likely they are, and how sure it is of its likeliest one.

Source: none; confidence and whether it is right are what calibration is measured on (Guo et al. 2017, arXiv:1706.04599,
equation 3, by `trainers.class_figures.calibration_error`).

Axes: N tokens, H hidden, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.batches import collate
from trainers.language_models import head_of, hidden_states
from trainers.loop import micro_batches

if TYPE_CHECKING:
    from trainers.lm_rows import LearnedRow

_CHUNK = 256  # tokens whose logits are there at once


class Predictions(NamedTuple):
    """What a model says of given tokens.

    Attributes:
        log_probs: (N,) of the token that follows, in nats.
        confidence: (N,) the largest probability.
        right: (N,) whether it is that of the token that follows.
    """

    log_probs: NDArray[np.float64]
    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]


def predict(model: Any, rows: "Sequence[LearnedRow]", max_tokens: int) -> Predictions:
    """Predictions of the completions of rows.

    Args:
        model: a causal language model with a linear head, in eval mode; transformers types it too loosely to use.
        rows: at least one.
        max_tokens: of a batch, padding included.
    """
    parts: list[Predictions] = []
    weight, bias = head_of(model)
    with torch.no_grad():
        for part in micro_batches(rows, max_tokens, 1)[0]:
            batch = collate([row.example for row in part]).to(weight.device)
            states, labels = hidden_states(model, batch), batch.labels
            for start in range(0, len(labels), _CHUNK):
                logits = torch.nn.functional.linear(states[start : start + _CHUNK], weight, bias)
                parts.append(_of_logits(logits.float(), labels[start : start + _CHUNK]))
    return Predictions(*(np.concatenate(one) for one in zip(*parts, strict=True)))


def _of_logits(logits: torch.Tensor, labels: torch.Tensor) -> Predictions:
    log_probs = logits.log_softmax(dim=-1)
    highest, at = log_probs.max(dim=-1)
    chosen = log_probs.gather(1, labels[:, None])[:, 0]
    return Predictions(
        chosen.double().cpu().numpy(), highest.double().exp().cpu().numpy(), (at == labels).cpu().numpy()
    )
