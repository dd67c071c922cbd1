"""Oracle: shares by hand."""

import numpy as np

from datagen.mixture import Mix, Seen
from datagen.mixture.proportional import Config, proportional


def test_shares_of_the_tokens_at_every_step():
    seen = Seen(names=list("abc"), n_tokens=np.array([100.0, 300, 600]), step=7)
    assert proportional(Config(), Mix(weights=(1.0, 0.0, 0.0)), seen) == Mix(weights=(0.1, 0.3, 0.6))
