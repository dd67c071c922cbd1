"""Oracle: a quarter each of four."""

import numpy as np
import pytest

from datagen.contracts.errors import DataError
from datagen.mixture import Mix, Seen
from datagen.mixture.uniform import Config, uniform


def test_each_domain_alike_whatever_its_size():
    seen = Seen(names=list("abcd"), n_tokens=np.array([1.0, 10, 100, 1e9]))
    assert uniform(Config(), None, seen) == Mix(weights=(0.25, 0.25, 0.25, 0.25))


@pytest.mark.parametrize("n_tokens", [[], [3.0, 0.0], [3.0]])
def test_domains_without_tokens_are_refused(n_tokens: list[float]):
    with pytest.raises(DataError, match="n_tokens"):
        uniform(Config(), None, Seen(names=["a", "b"][: len(n_tokens) and 2], n_tokens=np.array(n_tokens)))
