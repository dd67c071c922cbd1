import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx
from safetensors.torch import load_file

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import validate
from tests.regression import ROWS, Points, config, line, squares
from trainers.loop import Config, micro_batches, n_steps, rate_factor, train
from trainers.objectives import SumCount


def test_a_step_is_adamw_on_the_mean_over_all_points(tmp_path: Path):
    """Oracle: Adam's first step is lr * sign(gradient); loss and gradient norm in closed form for a line through 0."""
    network = line()
    records = train(network, ROWS, squares, config(learning_rate=0.01, schedule="constant"), Checkpoints(tmp_path))
    x, y = (torch.tensor([v for row in ROWS for v in getattr(row, axis)], dtype=torch.float64) for axis in "xy")
    slope, offset = (-2 * x * y).mean().item(), (-2 * y).mean().item()
    assert records[0]["loss"] == approx((y**2).mean().item(), rel=1e-12)
    assert records[0]["gradient_norm"] == approx(math.hypot(slope, offset), rel=1e-12)
    assert records[0]["count"] == len(x)
    assert network.weight.item() == approx(-0.01 * math.copysign(1, slope), rel=1e-6)
    assert network.bias.item() == approx(-0.01 * math.copysign(1, offset), rel=1e-6)


def test_sgd_by_hand(tmp_path: Path):
    """Two steps on (w - 3)**2: the momentum, the decay inside the gradient, the rate outside both; nothing is cut."""
    rows = [Points([1.0], [3.0])]
    network = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(network.weight, 0.5)
    of_sgd = config(
        optimizer="sgd", momentum=0.9, weight_decay=0.2, learning_rate=0.1, schedule="constant", warmup_share=0,
        max_gradient_norm=None, batch_size=1, epochs=2,
    )  # fmt: skip
    records = train(network, rows, squares, of_sgd, Checkpoints(tmp_path))
    weight, velocity = 0.5, 0.0
    for record in records:
        assert record["gradient_norm"] == approx(abs(2 * (weight - 3)), rel=1e-12)
        velocity = 0.9 * velocity + 2 * (weight - 3) + 0.2 * weight
        weight -= 0.1 * velocity
    assert network.weight.item() == approx(weight, rel=1e-12)


def test_adam_by_hand(tmp_path: Path):
    """Two steps on (w - 3)**2: the decay inside the gradient, so that it goes through both moments."""
    rows = [Points([1.0], [3.0])]
    network = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(network.weight, 0.5)
    of_adam = config(
        optimizer="adam", weight_decay=0.2, learning_rate=0.1, schedule="constant", warmup_share=0,
        max_gradient_norm=None, batch_size=1, epochs=2,
    )  # fmt: skip
    train(network, rows, squares, of_adam, Checkpoints(tmp_path))
    weight, first, second = 0.5, 0.0, 0.0
    for step in (1, 2):
        gradient = 2 * (weight - 3) + 0.2 * weight
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weight -= 0.1 * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
    assert network.weight.item() == approx(weight, rel=1e-9)


def test_what_came_later_is_in_no_manifest_unless_it_is_used():
    """The parameters of an earlier version, as a manifest holds them; momentum without sgd is refused."""
    assert {"optimizer", "momentum"}.isdisjoint(validate({}, Config).values())
    used = validate({"optimizer": "sgd", "momentum": 0.9, "max_gradient_norm": None}, Config).values()
    assert (used["optimizer"], used["momentum"], used["max_gradient_norm"]) == ("sgd", 0.9, None)
    with pytest.raises(ParamsError, match=r"momentum: .*set optimizer=sgd.*\(got 0.9\)"):
        validate({"momentum": 0.9}, Config)


@pytest.mark.parametrize("micro_batch_tokens", [1, 3, 7])
def test_the_split_into_micro_batches_changes_nothing(tmp_path: Path, micro_batch_tokens: int):
    """Oracle: the whole step at once, in float64; a mean of means would differ, as rows have 1 to 4 points."""
    found = []
    for tokens in (1000, micro_batch_tokens):
        network = line(0.5, -1.0)
        of_split = config(micro_batch_tokens=tokens, batch_size=7, epochs=3)
        records = train(network, ROWS, squares, of_split, Checkpoints(tmp_path / str(tokens)))
        found.append([*(p.item() for p in network.parameters()), *(record["gradient_norm"] for record in records)])
    assert found[1] == approx(found[0], rel=1e-12)


def test_least_squares_is_found(tmp_path: Path):
    """Oracle: the normal equations."""
    rows = [Points([v], [3 * v + 1 + 0.1 * (-1) ** i]) for i, v in enumerate([-1.0, -0.5, 0.0, 0.5, 1.0, 2.0])]
    x = torch.tensor([[row.x[0], 1.0] for row in rows], dtype=torch.float64)
    y = torch.tensor([row.y for row in rows], dtype=torch.float64)
    expected = torch.linalg.lstsq(x, y).solution.flatten().tolist()
    network = line()
    train(network, rows, squares, config(epochs=800, learning_rate=0.1, batch_size=6), Checkpoints(tmp_path))
    assert [network.weight.item(), network.bias.item()] == approx(expected, abs=1e-4)


def test_a_gradient_longer_than_the_bound_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: Adam's first moment after one step is (1 - 0.9) g, so its norm is a tenth of the bound."""
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    checkpoints = Checkpoints(tmp_path)
    train(line(), ROWS, squares, config(max_gradient_norm=0.5, epochs=2), checkpoints)
    state = torch.load(tmp_path / "step-00000001" / "optimizer.bin")["state"]
    assert math.hypot(*(moments["exp_avg"].item() for moments in state.values())) == approx(0.05, rel=1e-5)


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own(tmp_path: Path):
    """Oracle: the multiset of rows."""
    seen: list[float] = []

    def spy(network: torch.nn.Module, rows: Sequence[Points], device: torch.device) -> SumCount:
        seen.extend(row.x[0] for row in rows)
        return squares(network, rows, device)

    rows = [Points([float(i)], [0.0]) for i in range(10)]
    train(line(), rows, spy, config(epochs=2, batch_size=3), Checkpoints(tmp_path))
    first, second = seen[:10], seen[10:]
    assert sorted(first) == sorted(second) == [float(i) for i in range(10)]
    assert first != second


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 60), st.integers(1, 4))
def test_micro_batches_part_the_rows(lengths: list[int], max_tokens: int, n_processes: int):
    """Oracle: the multiset of rows, the bound, and equal numbers of micro-batches in all processes."""
    rows = [range(i * 100, i * 100 + n) for i, n in enumerate(lengths)]
    cut = micro_batches(rows, max_tokens, n_processes)
    assert sorted((row for mine in cut for part in mine for row in part), key=min) == rows
    assert len({len(mine) for mine in cut}) == 1
    for part in (part for mine in cut for part in mine if len(part) > 1):
        assert len(part) * max(map(len, part)) <= max_tokens


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
        ("step", [0.5, 1, 1, 1, 0.1, 0.1]),
    ],
)
def test_schedules_by_hand(schedule: Any, expected: list[float]):
    """Six steps, two of them warm-up; cosine at quarters of pi."""
    of_schedule = config(schedule=schedule, warmup_share=1 / 3)
    assert [rate_factor(step, 6, of_schedule) for step in range(6)] == approx(expected)


def test_numbers_of_steps_by_hand():
    """10 rows in threes are 4 steps an epoch."""
    assert n_steps(config(epochs=3, batch_size=3), 10) == 12
    assert n_steps(config(epochs=3, batch_size=3, steps=5), 10) == 5
    assert n_steps(config(epochs=3, batch_size=3, steps=50), 10) == 50


def test_a_checkpoint_in_the_middle_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: the unbroken run, dropout included; the broken one ends by an exception after five of eight steps."""
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    of_run = config(epochs=4, batch_size=5, learning_rate=0.05)

    def network() -> Any:
        torch.manual_seed(3)
        return torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)).double()

    def stop(record: Any) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    whole, broken, resumed = network(), network(), network()
    records = train(whole, ROWS, squares, of_run, Checkpoints(tmp_path / "whole"))
    checkpoints = Checkpoints(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train(broken, ROWS, squares, of_run, checkpoints, stop)
    torch.manual_seed(99)
    seen: list[int] = []
    again = train(resumed, ROWS, squares, of_run, checkpoints, lambda record: seen.append(record["step"]))
    assert again == records
    assert seen == list(range(1, 9))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_a_step_that_teaches_nothing_is_refused(tmp_path: Path):
    def nothing(network: torch.nn.Module, rows: Sequence[Points], device: torch.device) -> SumCount:
        return SumCount(0 * squares(network, rows, device).sum, torch.tensor(0))

    with pytest.raises(ValueError, match="without anything to learn from"):
        train(line(), ROWS, nothing, config(), Checkpoints(tmp_path))


class Named(Points):
    """A row that errors name by its id."""

    @property
    def id(self) -> str:
        """What stands first in it."""
        return f"row at {self.x[0]:.1f}"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Points([1.0], [math.nan]), "step 2: the loss is nan, on rows 6; the state before it is kept in "),
        (Named([5.0], [math.inf]), "step 2: the loss is inf, on rows 'row at 5.0'; "),
        (Points([1e-200], [1e160]), "step 2: the loss is inf, on rows 6; "),
    ],
)
def test_a_loss_that_is_no_number_ends_training_at_its_rows(tmp_path: Path, bad: Points, says: str):
    """The row that is bad is in the second step; what was reached before it is kept, and no weight is harmed."""
    rows = [*ROWS[:6], bad, *ROWS[7:]]
    of_run = config(batch_size=5, micro_batch_tokens=1, learning_rate=0.05, seed=2, epochs=2)
    reached: list[list[float]] = []
    network = line()
    with pytest.raises(DataError) as error:
        train(
            network, rows, squares, of_run, Checkpoints(tmp_path),
            lambda record: reached.append([p.item() for p in network.parameters()]),
        )  # fmt: skip
    assert says in str(error.value) and str(tmp_path) in str(error.value)
    (kept,) = tmp_path.glob("step-*")
    held = load_file(kept / "model.safetensors")
    assert kept.name == "step-00000001" and len(reached) == 1
    assert [held["weight"].item(), held["bias"].item()] == reached[0] == [p.item() for p in network.parameters()]
    with pytest.raises(DataError, match="step 2"):  # a second run says the same, from where the first was
        train(line(), rows, squares, of_run, Checkpoints(tmp_path))
    assert list(tmp_path.glob("step-*")) == [kept]


def test_a_gradient_that_is_no_number_ends_training(tmp_path: Path):
    """The loss is the square root of what is 0, whose slope is infinite; its rows cannot be told apart."""

    def root(network: torch.nn.Module, rows: Sequence[Points], device: torch.device) -> SumCount:
        part = squares(network, rows, device)
        return SumCount((0 * part.sum).sqrt(), part.n)

    with pytest.raises(DataError, match=r"step 1: the gradient's norm is nan, on rows (\d, ){9}\d; .*learning_rate"):
        train(line(), ROWS, root, config(), Checkpoints(tmp_path))


def test_no_number_is_left_to_who_asks_for_that(tmp_path: Path):
    rows = [Points([1.0], [math.nan])]
    records = train(line(), rows, squares, config(epochs=2, non_finite="go_on"), Checkpoints(tmp_path))
    assert [math.isnan(record["loss"]) for record in records] == [True, True]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 60), st.integers(1, 4))
def test_packed_micro_batches_part_the_rows(lengths: list[int], max_tokens: int, n_processes: int):
    """Oracle: the multiset of rows, and the tokens in each, by count; slots are at most 20 / 19 of them."""
    rows = [range(i * 100, i * 100 + n) for i, n in enumerate(lengths)]
    cut = micro_batches(rows, max_tokens, n_processes, "packed")
    assert sorted((row for mine in cut for part in mine for row in part), key=min) == rows
    for part in (part for mine in cut for part in mine if len(part) > 1):
        assert 20 * sum(map(len, part)) <= 19 * max_tokens
