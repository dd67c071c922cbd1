"""Rows at random, each of a class as likely: the baseline of all coresets and condensed sets.

Source: none; it is the first baseline of every paper on coresets, such as Zhao, Mopuri, Bilen. Dataset Condensation
with Gradient Matching. 2020. arXiv:2006.05929, table 1.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from condense.coresets import Candidates
from condense.coresets._classes import by_class, joined
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Config(Params):
    """Nothing to choose."""

    method: Literal["at_random"] = "at_random"


def at_random(config: Config, candidates: Candidates, sizes: Sequence[int], *, seed: int) -> "NDArray[np.int64]":
    """See `condense.coresets.CoresetMethod`; drawn without replacement."""
    import numpy as np

    return joined(
        np.random.default_rng(derive_seed(seed, "at_random", label)).choice(rows, size, replace=False)
        for label, rows, size in by_class(candidates, sizes)
    )
