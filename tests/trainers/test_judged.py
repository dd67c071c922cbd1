from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import validate
from tests.regression import ROWS, config, line, squares
from trainers.judged import best, is_enough
from trainers.loop import Config, train


def says(*values: float) -> tuple[Callable[[torch.nn.Module], float], list[list[float]]]:
    """A judge that says these in turn, and the weights that it saw."""
    seen: list[list[float]] = []

    def judge(network: torch.nn.Module) -> float:
        assert not network.training and not torch.is_grad_enabled()
        seen.append([parameter.item() for parameter in network.parameters()])
        return values[len(seen) - 1]

    return judge, seen


def weights(network: torch.nn.Module) -> list[float]:
    return [parameter.item() for parameter in network.parameters()]


def test_the_weights_that_were_judged_best_are_those_in_the_end(tmp_path: Path):
    """Twelve steps, asked every four; the second of three answers is the lowest, and nothing but the end changes."""
    judge, seen = says(3.0, 1.0, 2.0)
    network, plain = line(), line()
    of_run = {"epochs": 12, "learning_rate": 0.05}
    records = train(network, ROWS, squares, config(**of_run, judge_every=4), Checkpoints(tmp_path / "a"), judge=judge)
    assert [record.get("judged") for record in records] == [None] * 3 + [3.0] + [None] * 3 + [1.0] + [None] * 3 + [2.0]
    assert weights(network) == seen[1] != seen[2]
    unjudged = train(plain, ROWS, squares, config(**of_run), Checkpoints(tmp_path / "b"))
    assert weights(plain) == seen[2]
    assert [{k: v for k, v in record.items() if k != "judged"} for record in records] == unjudged


def test_the_last_step_is_judged_too(tmp_path: Path):
    """Of five steps, after the second, the fourth and the fifth."""
    judge, seen = says(3.0, 2.0, 1.0)
    network = line()
    records = train(network, ROWS, squares, config(epochs=5, judge_every=2), Checkpoints(tmp_path), judge=judge)
    assert [record["step"] for record in records if "judged" in record] == [2, 4, 5]
    assert weights(network) == seen[2]


def test_patience_ends_training(tmp_path: Path):
    """The second judgement is the best; equal is no gain, so the fourth is the second without one."""
    judge, seen = says(3.0, 1.0, 1.0, 2.0, 0.0)
    network = line()
    of_run = config(epochs=50, judge_every=2, patience=2)
    records = train(network, ROWS, squares, of_run, Checkpoints(tmp_path), judge=judge)
    assert len(records) == 8 and len(seen) == 4
    assert weights(network) == seen[1]


def test_best_and_enough_by_hand():
    records: list[dict[str, Any]] = [{"step": 1}, {"step": 2, "judged": 2.0}, {"step": 3, "judged": 1.0}]
    assert best(records[:1]) is None and best(records) == 3
    assert not is_enough(records, 1) and not is_enough([*records, {"step": 4, "judged": 1.0}], None)
    assert is_enough([*records, {"step": 4, "judged": 1.0}], 1)
    assert not is_enough([*records, {"step": 4, "judged": 0.5}], 1)


def test_a_judgement_that_is_no_number_ends_training(tmp_path: Path):
    judge, _ = says(float("nan"))
    with pytest.raises(DataError, match="step 1: the judge says nan"):
        train(line(), ROWS, squares, config(judge_every=1), Checkpoints(tmp_path), judge=judge)


def test_a_judge_that_is_set_up_in_part_is_refused(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"patience: .*set judge_every, or leave patience out \(got 3\)"):
        validate({"patience": 3}, Config)
    with pytest.raises(ValueError, match="there is no judge"):
        train(line(), ROWS, squares, config(judge_every=1), Checkpoints(tmp_path))


def test_nothing_is_left_where_the_model_is_in_place(tmp_path: Path):
    judge, _ = says(3.0, 1.0, 2.0, 4.0)
    checkpoints = Checkpoints(tmp_path)
    train(line(), ROWS, squares, config(epochs=4, judge_every=1), checkpoints, judge=judge)
    assert list(tmp_path.iterdir())
    checkpoints.clear()
    assert not list(tmp_path.iterdir())
