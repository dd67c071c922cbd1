"""Top-k: the teacher's likeliest k tokens with their log-probs, and the log mass of all others.

Peng et al. Pre-training Distillation for Large Language Models: A Design Space Exploration. 2024. arXiv:2410.16215,
which stores truncated logits. Anshumann et al. 2025, arXiv:2503.16870, shows that the truncated distribution biases
students; the tail's mass, kept here, lets an objective add the tail as one bucket.

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
    """`k` tokens a position."""

    method: Literal["topk"] = "topk"
    k: int = Field(default=32, ge=1, le=4096)


def layout(config: Config, vocabulary: int) -> "Layout":
    """What a position holds.

    Raises:
        ParamsError: k is more than there are.
    """
    from datagen.contracts.signal_columns import Layout

    if config.k > vocabulary:
        raise ParamsError(f"k: the teacher's vocabulary has {vocabulary} tokens (got {config.k})")
    return Layout(vocabulary=vocabulary, k=config.k)


def topk(config: Config, log_probs: "Tensor", trace_id: str, first_position: int) -> "Signal":
    """Keep the k likeliest of each position; the tail is summed in log space, over its own tokens.

    Args:
        config: k.
        log_probs: (T, V) float64.
        trace_id: nothing is drawn.
        first_position: likewise.
    """
    from datagen.signals._entries import exact_entries, to_signal

    ids, values, others = exact_entries(log_probs, config.k)
    return to_signal(others.logsumexp(dim=-1), exact=(ids, values))
