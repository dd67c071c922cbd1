"""Oracles: counts of steps; Markov chains in closed form; gradients by enumeration of every draw."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from datagen.backends.transformers_models import Example
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.records import Prompt, Trace
from tests.bigram import bigram_model
from trainers.language_models import StudentModel
from trainers.lm_loss import OfRollouts, RowsLoss, within_support
from trainers.lm_rows import LearnedRow
from trainers.objectives.reverse_kl import reverse_kl
from trainers.on_policy import N_COLLAPSED, Config, Rollouts, check, is_on_policy
from trainers.signals import Labelled, SparseLogProbs
from trainers.teachers.online import OnlineTeacher

CPU = torch.device("cpu")
TRACE = Trace(id="t", prompt=Prompt(id="p", messages=[]), completion="x")


def rows(n: int, prompt: list[int]) -> list[LearnedRow]:
    return [LearnedRow(f"row-{i}", Example([*prompt, 1], len(prompt)), TRACE) for i in range(n)]


def rollouts(config: Config, ends: frozenset[int] = frozenset(), unlearned: frozenset[int] = frozenset()) -> Rollouts:
    found = Rollouts(config, None, ends, 512, seed=3, folder=Path())
    found.unlearned = unlearned
    return found


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_the_share_of_steps_is_exact(share: float):
    """After n steps the largest whole number that is at most n times the share, and never two apart."""
    taken = [is_on_policy(step, share) for step in range(300)]
    assert all(sum(taken[:n]) == math.floor(n * share + 1e-9) for n in range(301))


def test_answers_take_the_place_of_rows_in_on_policy_steps_alone():
    """Of every second step; the prompt stays, the answer is of the seed, the step and the row."""
    torch.manual_seed(0)
    network = StudentModel(bigram_model(torch.randn(8, 8)))
    given = rows(4, [3, 5])
    first, second = (rollouts(Config(on_policy_share=0.5, rollout_tokens=6)) for _ in range(2))
    assert first.renew(network, given, 0) is given and first.update(0.0, 1, 9) == {}
    drawn = first.renew(network, given, 1)
    assert [row.example.tokens[:2] for row in drawn] == [[3, 5]] * 4
    assert all(row.drawn and row.example.n_prompt_tokens == 2 for row in drawn)
    assert [row.id for row in drawn] == [row.id for row in given]
    said = first.update(0.0, 2, 9)
    assert said["rollout_length"] == 6 and said["rollout_ended"] == 0 and 0 < said["rollout_entropy"] < math.log(8)
    assert [r.example for r in second.renew(network, given[::-1], 1)] == [r.example for r in drawn[::-1]]
    assert [r.example for r in second.renew(network, given, 3)] != [r.example for r in drawn]


@pytest.mark.parametrize("share", [0.1, 0.0])
def test_collapse_stops_training(share: float):
    """A student that comes to say one thing: entropy near 0, three on-policy steps in a row, also across a resume."""
    table = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    lively, dull = StudentModel(bigram_model(table)), StudentModel(bigram_model(100 * table))
    config = Config(on_policy_share=1.0, rollout_tokens=6, collapse_share=share)
    running = rollouts(config)
    running.renew(lively, rows(3, [3, 5]), 0)
    running.update(0.0, 1, 9)
    for step in range(1, N_COLLAPSED):
        running.renew(dull, rows(3, [3, 5]), step)
        assert running.update(0.0, step + 1, 9)["rollout_entropy"] < 0.05
    resumed = rollouts(config)
    resumed.load_state_dict(running.state_dict())
    resumed.renew(dull, rows(3, [3, 5]), N_COLLAPSED)
    if not share:
        assert resumed.update(0.0, N_COLLAPSED + 1, 9)
        return
    with pytest.raises(DataError, match=r"step 4: the student's answers have collapsed: rollout_entropy was"):
        resumed.update(0.0, N_COLLAPSED + 1, 9)


def test_one_drawn_token_is_a_poor_signal_and_the_support_is_not():
    """Failure 1. Each draw of a reverse KL of one token: its gradient is (log q - log p) times that of log q.

    Their mean over q is the gradient that is wanted; the root of their variance is more than twice as long, and the
    draw that the teacher finds least likely is more than five times off. On the teacher's 8 likeliest tokens the
    gradient is one and the same whatever was drawn, and points where the whole one does on them.
    """
    generator = torch.Generator().manual_seed(1)
    student = 2 * torch.randn(1, 50, generator=generator, dtype=torch.float64)
    teacher = 4 * torch.randn(1, 50, generator=generator, dtype=torch.float64)
    q, log_ratio = student.softmax(-1)[0], (student.log_softmax(-1) - teacher.log_softmax(-1))[0]
    each = log_ratio[:, None] * (torch.eye(50) - q)  # (draw, logit)
    wanted = q @ each
    assert (q @ (each - wanted).square().sum(1)).sqrt() > 2 * wanted.norm()
    assert (each[teacher.argmin()] - wanted).norm() > 5 * wanted.norm()

    def gradient(token: int) -> Tensor:
        logits = student.clone().requires_grad_()
        of_rollouts = OfRollouts(reverse_kl, support_k=8, unlearned=frozenset())
        of_rollouts(logits, Labelled(torch.tensor([token]), teacher), torch.tensor([True])).sum.backward()
        assert logits.grad is not None
        return logits.grad[0]

    found = [gradient(token) for token in range(50)]
    assert all((one == found[0]).all() for one in found)
    likeliest = teacher[0].topk(8).indices
    assert not found[0][[i for i in range(50) if i not in likeliest]].any()
    p = teacher[0][likeliest].softmax(-1)
    q_there = student[0][likeliest].softmax(-1)
    by_hand = q_there * ((q_there / p).log() - (q_there * (q_there / p).log()).sum())
    torch.testing.assert_close(found[0][likeliest], by_hand, rtol=1e-10, atol=1e-12)


def test_a_support_of_stored_signals():
    """The likeliest of a token's entries; padding counts for neither; drawn entries have none."""
    student = torch.arange(12.0).reshape(2, 6)
    entries = torch.tensor([[0.5, 0.3, 0.1], [0.6, 0.2, 0.0]]).log()
    signal = SparseLogProbs(torch.tensor([[4, 2, 5], [1, 3, 0]]), entries, torch.tensor([0.1, 0.2]).log())
    logits, values = within_support(student, signal, 2)
    assert logits.tolist() == [[4.0, 2.0], [7.0, 9.0]]
    torch.testing.assert_close(values.exp(), torch.tensor([[0.5, 0.3], [0.6, 0.2]]))
    logits, values = within_support(student, signal, 3)
    assert logits[1].tolist() == [7.0, 9.0, -math.inf] and values[1, 2] == -math.inf
    with pytest.raises(ValueError, match="rollout_support_k 4: the teacher has 3 entries a token, or draws them"):
        within_support(student, signal, 4)


def test_top_p_keeps_to_prefixes_that_the_teacher_knows():
    """Failure 2. Tokens 0 to 3 are sense, 4 to 7 junk: at each token sense turns into junk by 0.1, and never back.

    After t tokens 1 - 0.9^t of the prefixes are junk, where the teacher says nothing: the mean over 24 tokens is 0.62.
    Drawn from the likeliest 0.85, none is.
    """
    p = torch.full((8, 8), 1e-12, dtype=torch.float64)
    p[:4, :4], p[:4, 4:] = 0.9 / 4, 0.1 / 4
    p[4:, 4:] = 0.25
    network, given = StudentModel(bigram_model(p.log())), rows(64, [0])
    n_tokens = 24

    def share_of_junk(top_p: float) -> float:
        config = Config(on_policy_share=1.0, rollout_tokens=n_tokens, rollout_top_p=top_p, rollout_batch=64)
        drawn = rollouts(config).renew(network, given, 0)
        prefixes = [token for row in drawn for token in row.example.tokens[:-1]]  # before each learned token
        return sum(token >= 4 for token in prefixes) / len(prefixes)

    mean = sum(1 - 0.9**t for t in range(n_tokens)) / n_tokens
    assert mean == pytest.approx(0.6166, abs=1e-4)
    assert share_of_junk(1.0) == pytest.approx(mean, abs=4 * 0.5 / 64**0.5)
    assert share_of_junk(0.85) == 0.0


def test_a_token_that_both_use_differently_is_not_learned():
    """Failure 3. The student ends its turn with 6, the teacher with 7; in all else they are much the same.

    The position before the end is most of the loss, by hand; without it what is left is the loss of the others.
    """
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    student[:, 6:] = -20.0
    student[5, 6] = 20.0  # after 5 the turn ends
    teacher = student + 0.1 * torch.randn(8, 8, generator=generator, dtype=torch.float64)
    teacher[5, 6], teacher[5, 7] = -20.0, 20.0
    network, ends = StudentModel(bigram_model(student)), frozenset({6})
    config = Config(on_policy_share=1.0, rollout_tokens=40, rollout_batch=64)
    drawn = rollouts(config, ends).renew(network, rows(16, [0]), 0)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    divergence = (log_q.exp() * (log_q - log_p)).sum(-1)  # of the position at each last token
    before = [
        (tokens[i], tokens[i + 1]) for row in drawn for tokens in [row.example.tokens] for i in range(len(tokens) - 1)
    ]
    every = sum(float(divergence[last]) for last, _ in before)
    others = sum(float(divergence[last]) for last, token in before if token != 6)
    n_ends = sum(token == 6 for _, token in before)
    assert n_ends > 4 and every > 20 * others

    def loss(unlearned: frozenset[int]) -> Any:
        of_rollouts = OfRollouts(reverse_kl, support_k=None, unlearned=unlearned)
        return RowsLoss(reverse_kl, OnlineTeacher(bigram_model(teacher), {}), of_rollouts=of_rollouts)(
            network, drawn, CPU
        )

    found = loss(frozenset())
    assert (float(found.sum), int(found.n)) == (pytest.approx(every, rel=1e-6), len(before))
    found = loss(ends)
    assert (float(found.sum), int(found.n)) == (pytest.approx(others, rel=1e-6), len(before) - n_ends)


def test_answers_with_nothing_to_learn_are_an_error():
    table = torch.zeros(8, 8)
    table[:, 6] = 50.0
    running = rollouts(Config(on_policy_share=1.0), frozenset({6}), unlearned=frozenset({6}))
    with pytest.raises(DataError, match="step 1: the student's answers hold nothing to learn; see unlearned_tokens"):
        running.renew(StudentModel(bigram_model(table)), rows(2, [0]), 0)


@pytest.mark.parametrize(
    ("config", "kind", "objectives", "says"),
    [
        ({"on_policy_share": 0.5}, "online", ["supervised"], "supervised would learn the student's own answers"),
        (
            {"on_policy_share": 0.5},
            "cached",
            ["forward_kl"],
            "a teacher of the kind cached says nothing of new",
        ),
        ({"rollout_support_k": 5}, "online", ["forward_kl"], "rollout_support_k: of the student's own answers alone"),
        ({"unlearned_tokens": ["a"]}, "online", ["forward_kl"], "unlearned_tokens: of the student's own answers"),
    ],
)
def test_what_cannot_go_together(config: dict[str, Any], kind: str, objectives: list[str], says: str):
    with pytest.raises(ParamsError, match=says):
        check(Config(**config), ["online", kind], objectives)


def test_a_token_that_is_none(tiny: Path):
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    found = Rollouts(Config(unlearned_tokens=("</s>",)), tokenizer, frozenset(), 512, 0, Path())
    assert found.unlearned == {1}
    with pytest.raises(ParamsError, match="unlearned_tokens: '<end>' is no token of the student's"):
        Rollouts(Config(unlearned_tokens=("<end>",)), tokenizer, frozenset(), 512, 0, Path())
