"""Oracles: probabilities added up here, torch's softmax over whole vocabularies, the log."""

import logging
from typing import Any

import pytest
import torch

from tests.trainers.divergences import normal, sparse
from trainers import signals
from trainers.objectives.forward_kl import forward_kl
from trainers.signals import LOG_ZERO, HiddenStates, Labelled, Mixed, SparseLogProbs, chunk, outcomes

N, V = 5, 7
MASK = torch.ones(N, dtype=torch.bool)


def test_a_mixture_is_the_weighted_sum_of_probabilities():
    """In plain probabilities: the same weights for all tokens, weights by token, and a route: one teacher a token."""
    one, other = normal(N, V, seed=1), normal(N, V, seed=2)
    hidden, weight = normal(N, 3, seed=3), normal(V, 3, seed=4)
    logits = [one, other, hidden @ weight.T]
    route = torch.eye(3, dtype=torch.float64)[torch.arange(N) % 3]
    for weights in (torch.tensor([0.2, 0.5, 0.3]).double(), normal(N, 3, seed=5).softmax(-1), route):
        found = chunk(Mixed([one, other, HiddenStates(hidden, weight)], weights), 0, N)
        assert isinstance(found, torch.Tensor)
        expected = sum(weights.expand(N, 3)[:, k, None] * part.softmax(-1) for k, part in enumerate(logits))
        torch.testing.assert_close(found.exp(), expected)


def test_a_mixture_is_over_the_vocabulary_of_all():
    """A teacher with two logits more: without them, and its mass there is spread over the others."""
    one, wider = normal(N, V, seed=1), normal(N, V + 2, seed=2)
    found = chunk(Mixed([one, wider], torch.tensor([0.5, 0.5])), 0, N)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found.exp(), (one.softmax(-1) + wider[:, :V].softmax(-1)) / 2)


def test_sparse_signals_do_not_mix():
    signal: Any = sparse(normal(N, V), 2)
    with pytest.raises(ValueError, match="mixture of sparse signals: their entries are of different tokens"):
        chunk(Mixed([signal, signal], torch.tensor([0.5, 0.5])), 0, N)


def test_a_chunk_is_some_rows_of_every_part():
    """Slices made by hand."""
    teacher, hidden, weight = sparse(normal(N, V), 2), normal(N, 3), normal(V, 3)
    found = chunk(Labelled(torch.arange(N), teacher), 1, 3)
    assert isinstance(found, Labelled) and isinstance(found.teacher, SparseLogProbs)
    assert found.tokens.tolist() == [1, 2]
    for name in ("ids", "log_weights", "log_tail"):
        assert torch.equal(getattr(found.teacher, name), getattr(teacher, name)[1:3])
    torch.testing.assert_close(chunk(HiddenStates(hidden, weight), 1, 3), hidden[1:3] @ weight.T)
    padded = HiddenStates(hidden, torch.cat([weight, normal(4, 3)]), vocabulary=V)
    torch.testing.assert_close(chunk(padded, 0, N), hidden @ weight.T)


def test_sizes_that_models_have(caplog: pytest.LogCaptureFixture):
    """A vocabulary padded to 151,936 against 152,064: softmax over the smaller, said once in the log."""
    signals._say_once.cache_clear()
    student, teacher = normal(1, 151_936).float(), normal(1, 152_064, seed=1).float()
    with caplog.at_level(logging.INFO, logger="trainers.signals"):
        (log_q, log_p), _again = (outcomes(student, teacher, MASK[:1]) for _ in range(2))
    torch.testing.assert_close(log_q, student.log_softmax(-1))
    torch.testing.assert_close(log_p, teacher[:, :151_936].log_softmax(-1))
    (record,) = caplog.records
    assert "student has 151936 logits, teacher 152064: both are cut to the first 151936" in record.getMessage()


def test_a_sparse_signal_says_how_many_logits_its_teacher_had():
    """A student with more: cut to it, so that its tail has none of the padding."""
    student, teacher = normal(N, V + 3), normal(N, V, seed=1)
    known = sparse(teacher, 3)
    known = SparseLogProbs(known.ids, known.log_weights, known.log_tail, vocabulary=V)
    log_q, log_p = outcomes(student, known, MASK)
    rest = student[:, :V].softmax(-1).scatter(1, known.ids[:, :3], 0).sum(-1)
    torch.testing.assert_close(log_q[:, -1].exp(), rest)
    torch.testing.assert_close(log_p[:, -1], known.log_tail)
    assert (log_q[:, 3] == LOG_ZERO).all() and (log_p[:, 3] == LOG_ZERO).all()  # the column of padding


def test_a_tail_without_mass_is_not_the_student_s():
    """A teacher whose two entries sum to 1: its tail counts 2^-24, and forward KL's gradient there is q less that."""
    student = normal(N, V).requires_grad_()
    ids = torch.tensor([[0, 1]]).repeat(N, 1)
    log_probs = torch.tensor([[0.25, 0.75]]).log().double().repeat(N, 1)
    known = SparseLogProbs(ids, log_probs, torch.full((N,), -torch.inf).double())
    _, log_p = outcomes(student, known, MASK)
    torch.testing.assert_close(log_p[:, -1].exp(), torch.full((N,), 2.0**-24, dtype=log_p.dtype), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(forward_kl(student, known, MASK).sum, student)
    torch.testing.assert_close(gradient[:, 2:], student.detach().softmax(-1)[:, 2:], rtol=1e-5, atol=0)


def test_log_zero_is_finite_and_is_no_probability():
    """A logit of -inf: its outcome has the log that stands for 0, and no gradient reaches any logit from it."""
    student = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    log_q, log_p = outcomes(student, torch.zeros(1, 3), MASK[:1])
    assert log_q[0, 2] == LOG_ZERO and log_q[0, 2].exp() == 0
    log_q[0, 2].backward()
    assert student.grad is not None and not student.grad.any()
    torch.testing.assert_close(log_p.exp(), torch.full((1, 3), 1 / 3))


def test_masks_choose_rows_of_any_shape():
    """(2, 3) tokens, four of them: the rows in order."""
    student, teacher = normal(2, 3, V), normal(2, 3, V, seed=1)
    mask = torch.tensor([[True, False, True], [True, True, False]])
    log_q, log_p = outcomes(student, teacher, mask)
    torch.testing.assert_close(log_q, student[mask].log_softmax(-1))
    torch.testing.assert_close(log_p, teacher[mask].log_softmax(-1))
