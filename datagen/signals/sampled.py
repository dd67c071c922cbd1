"""Random-sampling KD: m tokens drawn from the teacher's distribution, an unbiased estimate of it.

Anshumann et al. Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs. 2025. arXiv:2503.16870: tokens are
drawn with replacement from a proposal q in proportion to p**t, and each draw weighs p / (m q). At t = 1, the default,
a token's weight is its count / m, and nothing else need be kept. At another t the weights do not sum to 1, and are left
so: made to sum to 1 they would be biased.

Axes: T positions, V vocabulary.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.params import Params

if TYPE_CHECKING:
    from torch import Tensor

    from datagen.contracts.signal_columns import Layout, Signal


class Config(Params):
    """`n_draws` is the paper's number of sampling rounds, `proposal_power` its t; draws derive from `seed`."""

    method: Literal["sampled"] = "sampled"
    n_draws: int = Field(default=12, ge=1, le=4096)
    proposal_power: float = Field(default=1.0, ge=0.5, le=1.5)
    seed: int = 0


def layout(config: Config, vocabulary: int) -> "Layout":
    """What a position holds."""
    from datagen.contracts.signal_columns import Layout

    return Layout(vocabulary=vocabulary, n_draws=config.n_draws, tempered=config.proposal_power != 1)


def sampled(config: Config, log_probs: "Tensor", trace_id: str, first_position: int) -> "Signal":
    """Draw from each position; equal draws are one entry with a count.

    Args:
        config: how many, from what.
        log_probs: (T, V) float64.
        trace_id: with the seed and the position it says what is drawn.
        first_position: of the T.
    """
    import numpy as np

    from datagen.signals._entries import draw, to_signal, uniforms

    n_positions = len(log_probs)
    proposal = log_probs * config.proposal_power
    drawn = draw(proposal, uniforms(config.seed, trace_id, first_position, n_positions, config.n_draws))
    log_ratios = None
    if config.proposal_power != 1:
        n_drawn, ids, _ = drawn
        positions = np.repeat(np.arange(n_positions), n_drawn)
        log_q = proposal - proposal.logsumexp(dim=-1, keepdim=True)
        log_ratios = (log_probs - log_q)[positions, ids].cpu().numpy()
    everything = log_probs.new_zeros(n_positions)
    return to_signal(everything, n_draws=config.n_draws, drawn=drawn, log_ratios=log_ratios)
