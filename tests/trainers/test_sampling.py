"""Oracles: a table of next-token probabilities; each row by itself; entropies of transformers' own logits."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datagen.contracts.errors import DataError
from tests.bigram import bigram_model
from trainers.on_policy import Config
from trainers.sampling import sample

NOWHERE = frozenset[int]()
N = 3000


@pytest.fixture
def table() -> Tensor:
    return 1.5 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def frequencies(model: Any, config: Config) -> Tensor:
    """Of the token that follows `3 5`, over N draws."""
    found = sample(model, [[3, 5]] * N, list(range(N)), config, NOWHERE, 512)
    return torch.bincount(torch.tensor([answer[0] for answer, _ in found]), minlength=8) / N


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7)])
def test_draws_come_as_often_as_their_probability(table: Tensor, temperature: float, top_p: float):
    """Within 4 standard errors; with top-p none but the likeliest that hold so much mass, made to sum to 1."""
    p = (table[5] / temperature).softmax(-1)
    order = p.argsort(descending=True)
    kept = [int(id) for i, id in enumerate(order) if p[order[:i]].sum() < top_p]
    wanted = torch.zeros(8, dtype=torch.float64)
    wanted[kept] = p[kept] / p[kept].sum()
    config = Config(rollout_tokens=1, rollout_temperature=temperature, rollout_top_p=top_p, rollout_batch=500)
    found = frequencies(bigram_model(table), config)
    assert ((found - wanted).abs() <= 4 * (wanted * (1 - wanted) / N).sqrt()).all()


def test_a_row_s_answer_is_its_own(table: Tensor):
    """Prompts of three lengths: in one batch, in another order, and each alone."""
    model, prompts, seeds = bigram_model(table), [[1], [2, 3, 4], [5, 6]], [7, 8, 9]
    together = sample(model, prompts, seeds, Config(rollout_tokens=12), frozenset({0}), 512)
    reversed_ = sample(model, prompts[::-1], seeds[::-1], Config(rollout_tokens=12), frozenset({0}), 512)[::-1]
    alone = sample(model, prompts, seeds, Config(rollout_tokens=12, rollout_batch=1), frozenset({0}), 512)
    assert [a for a, _ in together] == [a for a, _ in reversed_] == [a for a, _ in alone]
    assert [e for _, e in together] == pytest.approx([e for _, e in alone], rel=1e-6)
    assert len({tuple(a) for a, _ in together}) == 3


def test_entropies_are_those_of_the_student_whatever_is_drawn_from(table: Tensor):
    """Sums over an answer's tokens, its end included, by hand; the temperature of the draw changes none."""
    log_p = table.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    config = Config(rollout_tokens=9, rollout_temperature=0.7)
    found = sample(bigram_model(table), [[1, 2]] * 20, list(range(20)), config, frozenset({0, 4}), 512)
    for answer, spent in found:
        assert spent == pytest.approx(float(entropy[torch.tensor([2, *answer[:-1]])].sum()), rel=1e-6)
        assert not {0, 4} & set(answer[:-1]) and (len(answer) == 9 or answer[-1] in {0, 4})
    assert {answer[-1] for answer, _ in found} >= {0, 4}


def test_answers_stay_in_the_context(table: Tensor):
    """Of 6 positions, 2 are the prompt's; a prompt that fills it is an error."""
    model = bigram_model(table)
    assert [len(answer) for answer, _ in sample(model, [[1, 2]], [0], Config(), NOWHERE, 6)] == [4]
    found = sample(model, [[1, 2], [3] * 5, [4]], [0, 1, 2], Config(rollout_tokens=4), NOWHERE, 6)
    assert [len(answer) for answer, _ in found] == [4, 1, 4], "a long prompt shortens no other's answer"
    with pytest.raises(DataError, match="a prompt of 6 tokens leaves no room for an answer in a context of 6"):
        sample(model, [[1] * 6], [0], Config(), NOWHERE, 6)
