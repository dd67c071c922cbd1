"""Every domain in proportion to its tokens: what one gets by throwing all texts together.

Source: none; the baseline that DoReMi (arXiv:2305.10429) and ODM (arXiv:2312.02406) are compared with.
"""

from typing import Literal

from datagen.contracts.params import Params
from datagen.mixture import Mix, Seen
from datagen.mixture._seen import to_mix, token_counts

NEEDS: frozenset[str] = frozenset()


class Config(Params):
    """No parameters."""

    mixture: Literal["proportional"] = "proportional"


def proportional(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """n_tokens / sum(n_tokens), at every step.

    Raises:
        DataError: there is no domain, or an empty one.
    """
    del config, mix
    n_tokens = token_counts(seen)
    return to_mix(n_tokens / n_tokens.sum())
