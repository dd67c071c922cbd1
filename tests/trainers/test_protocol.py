"""Parameters that the protocol refuses, each in one line that says what to do."""

from typing import Any

import pytest

from datagen.contracts.errors import ParamsError
from trainers.protocol import Config, parse


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"nets": ["convnet2:16", "convnet2:48", "mlp"]}, "nets: .*name 3 or more that differ in more than width"),
        ({"nets": ["mlp", "vit:16", "mlp", "convnet2"]}, "nets: .*names one twice"),
        ({"seeds": 4}, "seeds: .*greater than or equal to 5"),
        ({"seeds_for_rate": 6}, r"seeds_for_rate: there are 5 seeds \(got 6\)"),
        ({"coresets": ["k_means"]}, "coresets: must have at_random"),
        ({"coresets": ["at_random", "kmeans"]}, "coresets: no 'kmeans' in condense.coresets; there are at_random"),
        ({"regimes": []}, "regimes"),
        ({"regimes": ["hard", "both"]}, "regimes"),
        ({"learning_rates": [0.1, -1]}, "learning_rates"),
        ({"multiples": [1]}, "multiples: .*each must be 2 or more"),
        ({"n_step": 5}, "n_step: unknown parameter; did you mean n_steps?"),
    ],
)
def test_what_makes_no_fair_comparison_is_refused(section: dict[str, Any], says: str):
    with pytest.raises(ParamsError, match=says):
        parse(section)


def test_the_defaults_are_a_protocol():
    params = parse({})
    assert params[Config].seeds == 5 and len(params[Config].nets) == 3
