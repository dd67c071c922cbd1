"""Parameters that the protocol refuses, each in one line that says what to do."""

from typing import Any

import pytest

from datagen.contracts.errors import ParamsError
from trainers.image_protocol import Config, check_nets, parse


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"nets": ["mlp", "vit:16", "mlp", "convnet2"]}, "nets: .*names one twice"),
        ({"seeds": 4}, "seeds: .*greater than or equal to 5"),
        ({"seeds_for_rate": 6}, r"seeds_for_rate: there are 5 seeds \(got 6\)"),
        ({"coresets": ["k_means"]}, "coresets: must have at_random"),
        ({"coresets": ["at_random", "kmeans"]}, "coresets: no 'kmeans' in condense.coresets; there are at_random"),
        ({"coresets": ["at_random", "forgetting"]}, "coresets: forgetting needs to know what experts got right"),
        ({"n_steps": 100, "whole_steps": 99}, r"whole_steps: .* 100 steps or more \(got 99\)"),
        ({"max_shared_share": 1.0}, "max_shared_share: .*less than 1"),
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
    check_nets(params[Config].nets)


@pytest.mark.parametrize(
    ("nets", "says"),
    [
        (["convnet2:16", "convnet2:48", "mlp"], "2, of convnet, mlp"),
        (["convnet2", "convnet2-instance", "mlp"], "2, of convnet, mlp"),
        (["convnet1", "convnet2", "convnet3"], "3, of convnet"),
        (["convnet2-batch", "convnet2-layer", "convnet2"], "3, of convnet"),
    ],
)
def test_nets_that_are_too_much_alike_are_refused(nets: list[str], says: str):
    """By hand; the second's normalisation is what a name without one means."""
    with pytest.raises(ParamsError, match=f"nets: .*not in width alone.*: {says}"):
        check_nets(nets)


def test_depth_and_normalisation_make_another_architecture():
    check_nets(["convnet2", "convnet3", "mlp"])
    check_nets(["convnet2", "convnet2-batch", "mlp:16"])
