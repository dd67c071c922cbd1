"""Sizes flattened by a temperature: small domains more often than by their tokens, large ones less.

Arivazhagan et al. Massively Multilingual Neural Machine Translation in the Wild. 2019. arXiv:1907.05019, where p is in
proportion to D^(1/T), D the share of a language's data. T = 1 is `proportional`, T to infinity `uniform`.
"""

from typing import Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.mixture import Mix, Seen
from datagen.mixture._seen import to_mix, token_counts

NEEDS: frozenset[str] = frozenset()


class Config(Params):
    """How flat.

    Attributes:
        mixture_temperature: T, at least 1; the paper compares 1, 5 and 100 and keeps 5.
    """

    mixture: Literal["temperature"] = "temperature"
    mixture_temperature: float = Field(default=5.0, ge=1)


def temperature(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """n_tokens^(1 / T) over its sum, at every step.

    Raises:
        DataError: there is no domain, or an empty one.
    """
    import numpy as np

    del mix
    logs = np.log(token_counts(seen)) / config.mixture_temperature
    powers = np.exp(logs - logs.max())
    return to_mix(powers / powers.sum())
