"""Oracles: divergences token by token of a table's log-probs; states by hand."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from datagen.backends.transformers_models import Example
from datagen.contracts.errors import DataError
from datagen.contracts.records import Prompt, Trace
from tests.bigram import bigram_model
from trainers.batches import Batch
from trainers.language_models import StudentModel
from trainers.lm_loss import RowsLoss, States, held_out_loss
from trainers.lm_rows import LearnedRow
from trainers.loop import Config
from trainers.weighted import combined

CPU = torch.device("cpu")
TRACE = Trace(id="t", prompt=Prompt(id="p", messages=[]), completion="x")
ROWS = [
    LearnedRow("a", Example([1, 2, 3, 4], 2), TRACE),
    LearnedRow("b", Example([5, 6], 1), TRACE),
    LearnedRow("c", Example([1, 2, 7, 3, 3, 0], 3), TRACE),
]
STUDENT, TEACHER = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Table:
    """A teacher of logits by last token."""

    identity: dict[str, Any] = {}  # noqa: RUF012  # a teacher's property, of an instance
    context = 512

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def prepare(self, rows: Sequence[LearnedRow], folder: Any) -> dict[str, tuple[str, str]]:
        return {}

    def signal(self, rows: Sequence[LearnedRow], batch: Batch) -> Tensor:
        lasts = [last for row in rows for last in row.example.tokens[row.example.n_prompt_tokens - 1 : -1]]
        return self.table[torch.tensor(lasts)]


def steps(rows: Sequence[LearnedRow] = ROWS) -> list[tuple[int, int]]:
    """Last token and learned token of every learned position."""
    return [
        (row.example.tokens[i - 1], row.example.tokens[i])
        for row in rows
        for i in range(row.example.n_prompt_tokens, len(row.example))
    ]


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_a_teacher_and_the_tokens_by_weight(layout: Any):
    """0.9 of forward KL and 0.1 of the likelihood, token by token; the teacher's rows follow the batch's order."""
    loss = RowsLoss(combined({"forward_kl": 0.9, "supervised": 0.1}), Table(TEACHER), layout=layout)
    found = loss(StudentModel(bigram_model(STUDENT)), ROWS, CPU)
    log_q, log_p = STUDENT.log_softmax(-1), TEACHER.log_softmax(-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1)
    wanted = sum(0.9 * divergence[last] - 0.1 * log_q[last, token] for last, token in steps())
    assert (float(found.sum), int(found.n)) == (pytest.approx(float(wanted), rel=1e-6), 6)


def test_an_infinite_divergence_is_an_error_with_its_rows():
    """The teacher never says 3 after 2; forward KL is defined all the same."""
    table = TEACHER.clone()
    table[2, 3] = -math.inf
    network = StudentModel(bigram_model(STUDENT))
    with pytest.raises(DataError, match="rows 'a', 'b', 'c': reverse_kl is infinite"):
        RowsLoss(combined("reverse_kl"), Table(table))(network, ROWS, CPU)
    assert RowsLoss(combined("forward_kl"), Table(table))(network, ROWS, CPU).sum.isfinite()


def test_a_judge_s_mean_is_over_tokens_of_all_micro_batches():
    judge = held_out_loss(ROWS, Config.model_validate({"micro_batch_tokens": 6}))
    wanted = -sum(float(STUDENT.log_softmax(-1)[pair]) for pair in steps()) / 6
    assert judge(StudentModel(bigram_model(STUDENT))) == pytest.approx(wanted, rel=1e-6)


def test_several_states_are_one():
    """TAID's t beside TVD++'s first pass: each hears what is its own, and a checkpoint holds both."""
    taid, tvd = combined("taid"), combined({"total_variation_pp": {"baseline": "batch"}})
    both = States({"taid": taid, "tvd": tvd})
    assert both.needs_first_pass and not States({"taid": taid}).needs_first_pass
    asked: list[float] = []

    def mean_loss() -> float:
        asked.append(0.25)
        return 0.25

    both.begin(mean_loss)
    said = both.update(1.0, 1, 10)
    assert asked == [0.25] and said["mean_agreement"] == 0.25 and said["t"] == 0.4
    both.update(0.9, 2, 10)
    resumed = States({"taid": combined("taid"), "tvd": tvd})
    resumed.load_state_dict(both.state_dict())
    assert resumed.update(0.5, 3, 10)["t"] == both.update(0.5, 3, 10)["t"] > 0.4
