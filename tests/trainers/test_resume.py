"""Exact resume of everything that a step may use: oracle, the unbroken run, bit for bit."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.errors import DataError
from tests.regression import ROWS, Points, config, squares
from trainers.loop import train
from trainers.objectives import SumCount

N_STEPS = 16


class Share:
    """A weight of the loss that follows it, as TAID's; it looks at each step before."""

    needs_first_pass = True

    def __init__(self) -> None:
        self.value, self.first = torch.tensor(0.0, dtype=torch.float64), 0.0

    def begin(self, mean_loss: Any) -> None:
        self.first = mean_loss()

    def update(self, loss: float, step: int, n_steps: int) -> dict[str, float]:
        self.value = 0.9 * self.value + 0.1 * (loss - 0.5 * self.first) * step / n_steps
        return {"share": self.value.item()}

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "first": self.first}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.value, self.first = state["value"], state["first"]


@dataclass
class Training:
    """A network with dropout, its state, and how often rows were renewed."""

    network: Any
    share: Share

    def loss(self, network: torch.nn.Module, rows: Sequence[Points], device: torch.device) -> SumCount:
        part = squares(network, rows, device)
        return SumCount(part.sum * (1 + torch.sigmoid(self.share.value)), part.n)

    def renew(self, network: torch.nn.Module, rows: Sequence[Points], step: int) -> list[Points]:
        """Rows that depend on the weights and on noise, as a student's own text does."""
        found: list[Points] = []
        for row in rows:
            y = network(torch.tensor(row.x, dtype=torch.float64)[:, None])[:, 0]
            found.append(Points(row.x, (0.5 * y + torch.rand(len(y)) + torch.tensor(row.y)).tolist()))
        return found

    def judge(self, network: torch.nn.Module) -> float:
        return squares(network, ROWS, torch.device("cpu")).sum.item()

    def run(self, folder: Path, advance: Any = lambda _: None) -> list[dict[str, Any]]:
        of_run = config(
            steps=N_STEPS, batch_size=4, micro_batch_tokens=6, learning_rate=0.05, optimizer="adam", judge_every=3,
            patience=4,
        )  # fmt: skip
        return train(
            self.network, ROWS, self.loss, of_run, Checkpoints(folder), advance,
            state=self.share, renew=self.renew, judge=self.judge,
        )  # fmt: skip


def training() -> Training:
    torch.manual_seed(3)
    network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)).double()
    return Training(network, Share())


def last_optimizer(folder: Path) -> dict[str, Any]:
    """The state in the last checkpoint, before the last step."""
    (last,) = folder.glob("step-*")
    return torch.load(last / "optimizer.bin")["state"]


@pytest.mark.parametrize("stopped_at", sorted(random.Random(9).sample(range(1, N_STEPS), 5)))
def test_interrupted_anywhere_no_bit_differs(tmp_path: Path, stopped_at: int, monkeypatch: pytest.MonkeyPatch):
    """Five random steps: weights, optimiser, records and the state of the loss; rows renewed, judged, dropout."""
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    whole, broken, resumed = training(), training(), training()
    records = whole.run(tmp_path / "whole")
    assert all(record["share"] != 0 for record in records) and sum("judged" in record for record in records) >= 3

    def stop(record: Any) -> None:
        if record["step"] == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.run(tmp_path / "broken", stop)
    torch.manual_seed(99)
    assert resumed.run(tmp_path / "broken") == records
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])
    assert torch.equal(whole.share.value, resumed.share.value)
    expected, found = last_optimizer(tmp_path / "whole"), last_optimizer(tmp_path / "broken")
    assert expected.keys() == found.keys() and len(expected) == 4
    for key, moments in expected.items():
        assert all(torch.equal(moment, found[key][name]) for name, moment in moments.items())


def test_renewed_rows_are_what_a_step_learns_from(tmp_path: Path):
    """Oracle: training on them from the start, which is the same where they don't depend on the network."""

    def doubled(rows: Sequence[Points]) -> list[Points]:
        return [Points([2 * x for x in row.x], row.y) for row in rows]

    nets = [training().network.eval() for _ in range(2)]
    for part in (part for net in nets for part in net if isinstance(part, torch.nn.Dropout)):
        part.p = 0.0
    of_run = config(epochs=2, batch_size=3)
    seen: list[int] = []

    def renew(network: Any, rows: Sequence[Points], step: int) -> list[Points]:
        assert not network.training and not torch.is_grad_enabled()
        seen.append(step)
        return doubled(rows)

    records = train(nets[0], ROWS, squares, of_run, Checkpoints(tmp_path / "a"), renew=renew)
    assert records == train(nets[1], doubled(ROWS), squares, of_run, Checkpoints(tmp_path / "b"))
    assert seen == list(range(8))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_what_is_given_first_is_the_mean_loss_of_the_step(tmp_path: Path):
    """Oracle: the step's own record; dropout draws the same noise again."""
    one = training()
    seen: list[float] = []

    class Looks(Share):
        def update(self, loss: float, step: int, n_steps: int) -> dict[str, float]:
            seen.append(self.first)
            assert (step, n_steps) == (len(seen), 5)
            return {}

    of_run = config(steps=5, batch_size=7, micro_batch_tokens=3)
    records = train(one.network, ROWS, squares, of_run, Checkpoints(tmp_path), state=Looks())
    assert seen == pytest.approx([record["loss"] for record in records], rel=1e-12)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of another width; and one that lost a file: one line that names the folder."""
    monkeypatch.setenv("DATASTILL_CHECKPOINT_S", "0")
    training().run(tmp_path)
    (last,) = tmp_path.glob("step-*")
    other = training()
    other.network = torch.nn.Sequential(torch.nn.Linear(1, 9), torch.nn.Dropout(0.5), torch.nn.Linear(9, 1)).double()
    with pytest.raises(DataError, match=f"{last.name}: is a checkpoint of another student, or not whole") as told:
        other.run(tmp_path)
    assert "remove it, or train the student that it is of" in str(told.value)
    (last / "state.pt").unlink()
    with pytest.raises(DataError, match="or not whole"):
        training().run(tmp_path)
