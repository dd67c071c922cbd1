"""Parameters that the protocol of graphs refuses, each in one line that says what to do."""

from typing import Any

import pytest

from datagen.contracts.errors import ParamsError
from trainers.graph_protocol import Config, parse
from trainers.graph_steps import Network, Steps


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"nets": ["gin", "gin"]}, "nets: .*names one twice"),
        ({"nets": ["gin"]}, r"nets: what serves one net says little; name 2 or more \(got \['gin'\]\)"),
        ({"nets": ["gin", "mlp"]}, "nets: no 'mlp' in trainers.graph_nets; there are gat, gcn, gin, sage"),
        ({"seeds": 4}, "seeds: .*greater than or equal to 5"),
        ({"seeds_for_rate": 11}, r"seeds_for_rate: there are 10 seeds \(got 11\)"),
        ({"coresets": ["k_means"]}, "coresets: must have at_random"),
        ({"coresets": ["at_random", "forgetting"]}, "coresets: forgetting needs to know what experts got right"),
        ({"n_steps": 100, "whole_steps": 99}, r"whole_steps: .* 100 steps or more \(got 99\)"),
        ({"max_shared_share": 1.0}, "max_shared_share: .*less than 1"),
        ({"multiples": [1]}, "multiples: .*each must be 2 or more"),
        ({"dropout": 1.5}, "dropout"),
        ({"hiden": 5}, "hiden: unknown parameter; did you mean hidden?"),
    ],
)
def test_what_makes_no_fair_comparison_is_refused(section: dict[str, Any], says: str):
    with pytest.raises(ParamsError, match=says):
        parse(section)


def test_the_defaults_are_a_protocol():
    params = parse({})
    assert params[Config].seeds == 10 and params[Config].nets == ["gin", "gat", "sage", "gcn"]
    assert params[Network].hidden == 128 and params[Steps].optimizer == "adam"
