"""Every domain as often as every other, whatever their sizes.

Source: none; the baseline of DDK (arXiv:2407.16154) that it calls equal sampling.
"""

from typing import Literal

from datagen.contracts.params import Params
from datagen.mixture import Mix, Seen
from datagen.mixture._seen import to_mix, token_counts

NEEDS: frozenset[str] = frozenset()


class Config(Params):
    """No parameters."""

    mixture: Literal["uniform"] = "uniform"


def uniform(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """1 / N each, at every step.

    Raises:
        DataError: there is no domain, or an empty one.
    """
    import numpy as np

    del config, mix
    n = len(token_counts(seen))
    return to_mix(np.full(n, 1 / n))
