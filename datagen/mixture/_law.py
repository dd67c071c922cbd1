"""A law from mixes to losses, fitted to few runs, with its error on runs that it was not fitted to.

Axes: R runs, D domains that are mixed, T domains whose loss is wanted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PENALTIES = tuple(10.0**k for k in range(2, -7, -1))
"""Ridge penalties that are tried, of equal errors the first; weights are in [0, 1]: the largest leaves no slope."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """loss[t] = exp(level[t] + weights @ slopes[:, t]).

    Attributes:
        level: (T,).
        slopes: (D, T).
        penalty: that the runs left out chose.
        explained: share of the variance of the log losses, over runs each left out of its own fit; below 0 the law
            predicts worse than the mean of the other runs.
    """

    level: "np.ndarray"
    slopes: "np.ndarray"
    penalty: float
    explained: float

    def predict(self, weights: "np.ndarray") -> "np.ndarray":
        """(..., T), losses in nats per token, of mixes (..., D)."""
        import numpy as np

        return np.exp(self.level + weights @ self.slopes)


def fit(weights: "np.ndarray", losses: "np.ndarray") -> Law:
    """Least squares on the log losses, with a ridge penalty on the slopes chosen by leaving out each run in turn.

    Args:
        weights: (R, D), R at least 3.
        losses: (R, T), above 0.
    """
    import numpy as np

    logs, n = np.log(losses), len(weights)
    design = np.hstack([np.ones((n, 1)), weights])
    best = None
    for penalty in PENALTIES:
        gram = design.T @ design + penalty * np.diag([0.0] + [1.0] * weights.shape[1])
        solution = np.linalg.solve(gram, design.T)  # (1 + D, R)
        # A linear smoother's error on a run left out: its residual over 1 less its own share in its prediction.
        left_out = (logs - design @ solution @ logs) / (1 - np.diag(design @ solution))[:, None]
        error = float((left_out**2).sum())
        if best is None or error < best[0]:
            best = (error, penalty, solution @ logs)
    assert best is not None
    error, penalty, coefficients = best
    total = float((((logs - logs.mean(0)) * n / (n - 1)) ** 2).sum())  # the same for the mean of the other runs
    return Law(
        level=coefficients[0], slopes=coefficients[1:], penalty=penalty,
        explained=1 - error / total if total else 0.0,
    )  # fmt: skip
