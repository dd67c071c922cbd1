"""Oracle: parameters counted by hand."""

import pytest

from condense.nets.opening import open_net
from datagen.contracts.errors import ParamsError


def test_parameters_by_hand():
    """64 x 16 + 16, 16 x 16 + 16, 16 x 10 + 10; layer normalisation adds two vectors a layer."""
    for name, expected in (("mlp", 1040 + 272 + 170), ("mlp-layer", 1040 + 272 + 170 + 64), ("mlp1", 1040 + 170)):
        net = open_net(name, (1, 8, 8), 10, width=16, seed=0)
        assert sum(one.numel() for one in net.parameters()) == expected


def test_a_normalisation_that_it_cannot_have_is_refused():
    with pytest.raises(ParamsError, match="mlp has no normalisation 'batch'; there are layer and none"):
        open_net("mlp-batch", (1, 8, 8), 10, width=4, seed=0)
