"""DoReMi: domains on which a proxy trails a reference model gain weight, and the mean over all updates is the result.

Xie et al. DoReMi: Optimizing Data Mixtures Speeds Up Language Model Pretraining. 2023. arXiv:2305.10429, Algorithm 1:
with lambda[i] the proxy's excess loss over the reference, clipped below at 0, alpha[i] <- alpha[i] exp(eta lambda[i]),
normalised, then (1 - c) alpha + c / N; eta = 1, c = 1e-3 (their released code is run with 1e-4), from uniform weights.
The mix to train on is the mean of alpha over the updates, without the one to begin with.

Departures. The paper clips token by token, on the batch that was drawn, at every step; here losses are means over each
domain's held-out rows, clipped once, whenever weights are renewed, so a domain where the proxy is better on the whole
has no excess. And there the weights scale the loss of batches drawn uniformly; here batches are drawn by them, which
has the same expected gradient.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.mixture import Mix, Seen
from datagen.mixture._seen import losses_of, to_mix, token_counts, weights_of

if TYPE_CHECKING:
    import numpy as np

NEEDS = frozenset({"student_losses", "reference_losses"})


class Config(Params):
    """DoReMi's update.

    Attributes:
        step_size: eta, for losses in nats per token.
        mixture_smoothing: c, the share of the uniform distribution in every new mix.
    """

    mixture: Literal["doremi"] = "doremi"
    step_size: float = Field(default=1.0, gt=0)
    mixture_smoothing: float = Field(default=1e-3, ge=0, le=1)


def doremi(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """Uniform weights before the first step, then one update; `mean` in the memory is the mean of all updates so far.

    Raises:
        DataError: a loss is missing or not finite.
    """
    import numpy as np

    n = len(token_counts(seen))
    if mix is None:
        return to_mix(np.full(n, 1 / n))
    excess = np.maximum(losses_of(seen, "student_losses") - losses_of(seen, "reference_losses"), 0)
    weights = update(weights_of(mix, seen), excess, step_size=config.step_size, smoothing=config.mixture_smoothing)
    n_updates = mix.memory.get("n_updates", [0.0])[0] + 1
    mean = np.asarray(mix.memory.get("mean", [0.0] * n))
    return to_mix(weights, mean=mean + (weights - mean) / n_updates, n_updates=np.array([n_updates]))


def update(weights: "np.ndarray", excess: "np.ndarray", *, step_size: float, smoothing: float) -> "np.ndarray":
    """One step of exponentiated gradient ascent on the excess losses, smoothed.

    Args:
        weights: (N,), not negative, at least one above 0.
        excess: (N,), in nats per token, not negative.
        step_size: above 0.
        smoothing: in [0, 1].

    Returns:
        (N,) float64, that sum to 1, each at least smoothing / N.
    """
    import numpy as np

    with np.errstate(divide="ignore"):
        logs = np.log(weights) + step_size * excess
    powers = np.exp(logs - logs.max())
    return (1 - smoothing) * powers / powers.sum() + smoothing / len(weights)
