"""Fields of Seen as the rules need them: there, of the right length, and finite."""

from typing import TYPE_CHECKING

from datagen.contracts.errors import DataError
from datagen.mixture import Mix, Seen

if TYPE_CHECKING:
    import numpy as np


def losses_of(seen: Seen, field: str) -> "np.ndarray":
    """(N,) float64, a field that holds a finite loss of every domain.

    Raises:
        DataError: it is missing, of another length, or holds what is no number.
    """
    import numpy as np

    given = getattr(seen, field)
    if given is None:
        raise DataError(f"{field}: the rule needs the loss of every domain, and none was measured")
    losses = np.asarray(given, dtype=np.float64)
    if losses.shape != (len(seen.names),):
        raise DataError(f"{field}: {losses.shape} values for {len(seen.names)} domains; give one a domain")
    for name, loss in zip(seen.names, losses, strict=True):
        if not np.isfinite(loss):
            raise DataError(
                f"{field}: domain {name!r} has loss {loss} at step {seen.step}; a model that diverged, or "
                "held-out rows without a token, give none"
            )
    return losses


def token_counts(seen: Seen) -> "np.ndarray":
    """(N,) float64, the tokens of every domain, each at least 1.

    Raises:
        DataError: there is no domain, or one of them is empty.
    """
    import numpy as np

    n_tokens = np.asarray(seen.n_tokens, dtype=np.float64)
    if not len(seen.names) or n_tokens.shape != (len(seen.names),):
        raise DataError(f"n_tokens: {n_tokens.shape} values for {len(seen.names)} domains; give one a domain")
    for name, n in zip(seen.names, n_tokens, strict=True):
        if not (n > 0 and np.isfinite(n)):
            raise DataError(f"n_tokens: domain {name!r} has {n:g} tokens; leave it out, or give it rows")
    return n_tokens


def weights_of(mix: Mix, seen: Seen) -> "np.ndarray":
    """(N,) float64, the last weights.

    Raises:
        DataError: they are of another number of domains, such as those of a checkpoint of other data.
    """
    import numpy as np

    if len(mix.weights) != len(seen.names):
        raise DataError(
            f"{len(mix.weights)} weights for the {len(seen.names)} domains {', '.join(seen.names)}; they belong "
            "to other data, begin anew"
        )
    return np.asarray(mix.weights, dtype=np.float64)


def to_mix(weights: "np.ndarray", **memory: "np.ndarray") -> Mix:
    """The weights and what to remember as plain numbers."""
    return Mix(
        weights=tuple(float(w) for w in weights),
        memory={name: [float(x) for x in values] for name, values in memory.items()},
    )
