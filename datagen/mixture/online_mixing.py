"""ODM: a bandit whose arms are the domains and whose reward is the training loss, so that what is still hard is drawn.

Albalak et al. Efficient Online Data Mixing For Language Model Pre-Training. 2023. arXiv:2312.02406: Exp3 with
pi = (1 - N eps_t) softmax(eps_{t-1} R) + eps_t, eps_t = min(1 / N, sqrt(ln N / (N t))), and R a moving average of the
losses over the probability of their domain, R[i] <- a R[i] + (1 - a) loss[i] / pi[i], for the domains that were drawn.

The policy, its exploration and a warm-up of 2,000 of 100,000 steps are so in the authors' code and scripts. The paper's
text could not be read: that losses are divided by pi within the moving average is so by others' notes of it, and
a = 0.9 by an implementation of others; a script of the authors runs 0.5. t counts optimiser steps, as theirs does,
though weights may be renewed more seldom. It begins with uniform weights, eps_0 = 1 / N; theirs begins with the Pile's.
"""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.errors import DataError
from datagen.contracts.params import Params
from datagen.mixture import Mix, Seen
from datagen.mixture._seen import to_mix, token_counts, weights_of

if TYPE_CHECKING:
    import numpy as np

NEEDS = frozenset({"trained_losses"})


class Config(Params):
    """The bandit.

    Attributes:
        reward_decay: a, what is kept of the old reward.
        warmup_share: of all steps, those in which the weights stay as they began and no reward counts.
    """

    mixture: Literal["online_mixing"] = "online_mixing"
    reward_decay: float = Field(default=0.9, ge=0, lt=1)
    warmup_share: float = Field(default=0.02, ge=0, lt=1)


def online_mixing(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """Uniform weights before the first step and in the warm-up, then one update; the memory has rewards and eps.

    Raises:
        DataError: `trained_losses` is missing, of another length, or infinite; nan says that no batch was drawn.
    """
    import numpy as np

    n = len(token_counts(seen))
    if mix is None:
        return to_mix(np.full(n, 1 / n), rewards=np.zeros(n), exploration=np.array([1 / n]))
    weights = weights_of(mix, seen)
    losses = np.asarray(np.nan if seen.trained_losses is None else seen.trained_losses, dtype=np.float64)
    if losses.shape != (n,) or np.isinf(losses).any():
        raise DataError(
            f"trained_losses: the rule needs the mean training loss of each of {n} domains, nan where none was drawn "
            f"(got {None if seen.trained_losses is None else losses.tolist()} at step {seen.step})"
        )
    if seen.step <= config.warmup_share * seen.n_steps:
        return mix
    rewards = next_rewards(np.asarray(mix.memory["rewards"]), weights, losses, decay=config.reward_decay)
    before, exploration = mix.memory["exploration"][0], explore(n, seen.step)
    return to_mix(policy(rewards, before, exploration), rewards=rewards, exploration=np.array([exploration]))


def explore(n_domains: int, step: int) -> float:
    """eps_t, the least probability of a domain at step t: 1 / N at first, then falling with the root of t."""
    return min(1 / n_domains, math.sqrt(math.log(n_domains) / (n_domains * max(step, 1))))


def next_rewards(rewards: "np.ndarray", weights: "np.ndarray", losses: "np.ndarray", *, decay: float) -> "np.ndarray":
    """R after one round; (N,) each, losses in nats per token, nan for a domain without one, whose reward stays."""
    import numpy as np

    drawn = ~np.isnan(losses)
    new = rewards.copy()
    new[drawn] = decay * rewards[drawn] + (1 - decay) * losses[drawn] / weights[drawn]
    return new


def policy(rewards: "np.ndarray", before: float, exploration: float) -> "np.ndarray":
    """pi: (N,) float64 that sum to 1, each at least `exploration`; `before` is eps of the round before."""
    import numpy as np

    logs = before * rewards
    powers = np.exp(logs - logs.max())
    return (1 - len(rewards) * exploration) * powers / powers.sum() + exploration
