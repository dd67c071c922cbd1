"""Hybrid: the likeliest k tokens exactly, and m drawn from the others, each of weight tail mass / m.

Anshumann et al. Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs. 2025. arXiv:2503.16870: top-k is
biased in its tail, draws are noisy in the head. Here the head is top-k's and the tail, drawn with replacement from the
teacher's own distribution over it, is random-sampling KD's, so the whole stays unbiased. The split is ours, not the
paper's.

Axes: T positions, V vocabulary.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params

if TYPE_CHECKING:
    from torch import Tensor

    from datagen.contracts.signal_columns import Layout, Signal


class Config(Params):
    """`k` exact tokens and `n_draws` from the others; draws derive from `seed`."""

    method: Literal["hybrid"] = "hybrid"
    k: int = Field(default=16, ge=1, le=4096)
    n_draws: int = Field(default=16, ge=1, le=4096)
    seed: int = 0


def layout(config: Config, vocabulary: int) -> "Layout":
    """What a position holds.

    Raises:
        ParamsError: k leaves no tail to draw from.
    """
    from datagen.contracts.signal_columns import Layout

    if config.k >= vocabulary:
        raise ParamsError(f"k: the teacher's vocabulary has {vocabulary} tokens, so nothing is left (got {config.k})")
    return Layout(vocabulary=vocabulary, k=config.k, n_draws=config.n_draws)


def hybrid(config: Config, log_probs: "Tensor", trace_id: str, first_position: int) -> "Signal":
    """Keep the k likeliest, draw from the others; a tail without mass gets no draws.

    Args:
        config: how many of each.
        log_probs: (T, V) float64.
        trace_id: with the seed and the position it says what is drawn.
        first_position: of the T.
    """
    from datagen.signals._entries import draw, exact_entries, to_signal, uniforms

    ids, values, others = exact_entries(log_probs, config.k)
    points = uniforms(config.seed, trace_id, first_position, len(log_probs), config.n_draws)
    drawn = draw(others, points)
    return to_signal(others.logsumexp(dim=-1), exact=(ids, values), n_draws=config.n_draws, drawn=drawn)
