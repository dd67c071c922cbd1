"""Likelihood matching; oracles: closed forms, decimal arithmetic, finite differences."""

import math
from decimal import Decimal, getcontext

import pytest
import torch
from pytest import approx

from trainers.chunk_likelihoods import ChunkSignal, chunk_signal
from trainers.objectives.likelihood_matching import (
    likelihood_matching,
    likelihood_matching_of_hidden,
    log1mexp,
    matched,
)
from trainers.tokenizer_bias import Span

getcontext().prec = 60
ALL = torch.ones(4, dtype=torch.bool)


def example(log_probs: list[float] | None = None) -> ChunkSignal:
    """Tokens 1, 0, 2, 1 in three chunks; the second ends a word, from which the third starts."""
    spans = [Span(0, 1, False, False), Span(1, 3, False, True), Span(3, 4, True, False)]
    given = torch.tensor(log_probs or [-1.0, -3.0, -0.5], dtype=torch.float64)
    return chunk_signal([([1, 0, 2, 1], spans)], given, [1])


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_one_chunk_closed_form():
    """The cross-entropy of two outcomes at p = exp(ln(1/4) - eps) and q = exp(ln(1/2) - eps)."""
    signal = chunk_signal([([0], [Span(0, 1, False, False)])], torch.tensor([math.log(0.25)], dtype=torch.float64), [])
    loss, n = likelihood_matching(torch.zeros(1, 2).double(), signal, ALL[:1], temperature=1.0, epsilon=0.1)
    p, q = 0.25 * math.exp(-0.1), 0.5 * math.exp(-0.1)
    assert loss.item() == approx(-(p * math.log(q) + (1 - p) * math.log(1 - q)), rel=1e-12)
    assert n.item() == 1


def test_the_paper_s_constants():
    """Temperature 100 and eps 1e-6, in decimals of 60 digits."""
    signal = chunk_signal([([0], [Span(0, 1, False, False)])], torch.tensor([-2.5]).double(), [])
    loss, _ = likelihood_matching(torch.zeros(1, 2).double(), signal, ALL[:1])
    log_p, log_q = Decimal("-0.025") - Decimal("1e-6"), -Decimal(2).ln() / 100 - Decimal("1e-6")
    wanted = -(log_p.exp() * log_q + (1 - log_p.exp()) * (1 - log_q.exp()).ln())
    assert loss.item() == approx(float(wanted), rel=1e-11)


@pytest.mark.parametrize("x", ["-1e-12", "-1e-6", "-0.01", "-0.6931", "-0.6932", "-1", "-40", "-700"])
def test_log1mexp_in_decimals(x: str):
    found = log1mexp(torch.tensor(float(x), dtype=torch.float64)).item()
    assert found == approx(float((1 - Decimal(x).exp()).ln()), rel=1e-12)


def test_the_gradient_is_zero_at_equality_and_nowhere_else():
    """Bit for bit: both sides are the same sum of the same log-probs."""
    student = logits().requires_grad_()
    log_probs = student.detach().log_softmax(-1)
    tokens, words = log_probs[range(4), [1, 0, 2, 1]], log_probs[:, 1:2].logsumexp(-1)
    equal = [tokens[0].item(), (tokens[1] + tokens[2] + words[3]).item(), (tokens[3] - words[3]).item()]
    likelihood_matching(student, example(equal), ALL).sum.backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-15
    student.grad = None
    likelihood_matching(student, example([equal[0], equal[1] - 1e-3, equal[2]]), ALL).sum.backward()
    gradient = student.grad
    assert gradient is not None and gradient.abs().max() > 1e-8


def test_a_chunk_s_gradient_in_closed_form():
    """(q - p) / (1 - q) / tau."""
    student, teacher = torch.tensor([-3.0, -0.2], dtype=torch.float64), torch.tensor([-1.0, -5.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(matched(student.requires_grad_(), teacher, 10.0, 1e-3).sum(), student)
    q, p = (student.detach() / 10 - 1e-3).exp(), (teacher / 10 - 1e-3).exp()
    torch.testing.assert_close(gradient, (q - p) / (1 - q) / 10, rtol=1e-12, atol=0)


def test_gradcheck_in_float64():
    """Finite differences, over logits, and over states and head."""
    assert torch.autograd.gradcheck(
        lambda z: likelihood_matching(z, example(), ALL, temperature=2.0).sum, (logits().requires_grad_(),)
    )
    states, weight, bias = (
        logits(1).requires_grad_(),
        logits(2)[:3].clone().requires_grad_(),
        logits(3)[0].clone().requires_grad_(),
    )
    assert torch.autograd.gradcheck(
        lambda h, w, b: likelihood_matching_of_hidden(h, w, example(), bias=b, temperature=2.0).sum,
        (states, weight, bias),
    )


def test_states_and_logits_give_the_same():
    """The logits are states @ head + bias."""
    states, weight, bias = logits(1), logits(2)[:3], logits(3)[0]
    mine = likelihood_matching_of_hidden(states, weight, example(), bias=bias)
    plain = likelihood_matching(states @ weight.T + bias, example(), ALL)
    assert mine.sum.item() == approx(plain.sum.item(), rel=1e-13)
    assert mine.n.item() == plain.n.item() == 4


def test_unchanged_by_a_constant_and_by_what_stands_outside_the_mask():
    """Logits plus a number a row; the last row NaN, whose chunk and the one that ends before it do not count."""
    mask = torch.tensor([True, True, True, False])
    broken = logits() + torch.arange(4.0)[:, None]
    broken[3] = math.nan
    loss, n = likelihood_matching(broken, example(), mask)
    alone = matched(logits()[:1].log_softmax(-1)[:, 1], torch.tensor([-1.0]), 100.0, 1e-6)
    assert loss.item() == approx(alone.item(), rel=1e-10)
    assert n.item() == 3


def test_texts_add_up():
    """Two texts in one batch, and one by one: 1e-12."""
    whole = logits()
    spans = [Span(0, 2, False, False)]
    both = chunk_signal([([1, 0], spans), ([2, 1], spans)], torch.tensor([-1.0, -2.0]).double(), [])
    single = [
        chunk_signal([(tokens, spans)], torch.tensor([value]).double(), [])
        for tokens, value in (([1, 0], -1.0), ([2, 1], -2.0))
    ]
    total = likelihood_matching(whole, both, ALL)
    parts = [likelihood_matching(whole[2 * i : 2 * i + 2], one, ALL[:2]) for i, one in enumerate(single)]
    assert total.sum.item() == approx(sum(part.sum.item() for part in parts), rel=1e-12)
    assert total.n.item() == sum(part.n.item() for part in parts)


def test_what_the_teacher_finds_impossible_is_made_less_likely():
    """At log p = -inf the loss is -log(1 - q), finite."""
    student = torch.zeros(1, dtype=torch.float64) - 2
    loss = matched(student, torch.tensor([-math.inf]), 1.0, 1e-6)
    assert loss.item() == approx(-math.log(1 - math.exp(-2 - 1e-6)), rel=1e-12)
    assert matched(torch.tensor([-math.inf]), torch.tensor([-math.inf]), 1.0, 1e-6).item() == 0


def test_an_empty_mask_gives_nothing():
    loss, n = likelihood_matching(logits(), example(), ~ALL)
    assert (loss.item(), n.item()) == (0, 0)


def test_half_precision_is_summed_in_float32():
    """The float32 loss of the same numbers."""
    half = logits().bfloat16()
    assert likelihood_matching(half, example(), ALL).sum.item() == approx(
        likelihood_matching(half.double(), example(), ALL).sum.item(), rel=1e-5
    )


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"logits \(3, 3\), tokens \(4,\) and mask \(4,\)"):
        likelihood_matching(logits()[:3], example(), ALL)
