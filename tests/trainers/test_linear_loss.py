"""Oracles: the same loss of whole logits by autograd, in float64 to 1e-12; finite differences; torch's own loss."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainers.divergences import normal, sparse
from trainers.linear_loss import LogitsLoss, linear_loss, token_log_probs
from trainers.objectives import SumCount
from trainers.objectives.forward_kl import forward_kl
from trainers.objectives.jensen_shannon import jensen_shannon
from trainers.objectives.negative_log_acceptance import negative_log_acceptance
from trainers.objectives.reverse_kl import reverse_kl
from trainers.objectives.supervised import supervised
from trainers.objectives.taid import taid
from trainers.objectives.total_variation import total_variation
from trainers.objectives.total_variation_pp import total_variation_pp
from trainers.signals import HiddenStates, Labelled, Mixed, Signal

N, V, H = 11, 13, 5
OBJECTIVES: dict[str, LogitsLoss] = {
    "supervised": supervised,
    "forward_kl": functools.partial(forward_kl, temperature=2.0),
    "reverse_kl": reverse_kl,
    "jensen_shannon": functools.partial(jensen_shannon, weight_of_teacher=0.3),
    "total_variation": total_variation,
    "total_variation_pp": total_variation_pp,
    "negative_log_acceptance": negative_log_acceptance,
    "taid": functools.partial(taid, t=0.4),
}


def inputs() -> tuple[Tensor, Tensor, Tensor, Labelled]:
    hidden, weight, bias = normal(N, H) / 2, normal(V, H, seed=1) / 2, normal(V, seed=2)
    states = HiddenStates(normal(N, 3, seed=3), normal(V, 3, seed=4) / 2)
    return hidden, weight, bias, Labelled(torch.arange(N) % V, states)


def gradients(loss: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, of)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 11, 100, None])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_chunk_is_the_plain_loss(name: str, chunk_tokens: int | None):
    """Value and all three gradients, with a factor behind the loss as a step's mean has one."""
    hidden, weight, bias, signal = inputs()
    of = tuple(one.requires_grad_() for one in (hidden, weight, bias))
    plain = OBJECTIVES[name](functional.linear(*of), signal, torch.ones(N).bool())
    chunked = linear_loss(hidden, weight, signal, OBJECTIVES[name], bias=bias, chunk_tokens=chunk_tokens)
    assert chunked.n == plain.n == N
    torch.testing.assert_close(chunked.sum, plain.sum, rtol=1e-12, atol=1e-12)
    for factor in (1.0, 0.37):
        given, wanted = (gradients(factor * part.sum, *of) for part in (
            linear_loss(hidden, weight, signal, OBJECTIVES[name], bias=bias, chunk_tokens=chunk_tokens),
            OBJECTIVES[name](functional.linear(*of), signal, torch.ones(N).bool()),
        ))  # fmt: skip
        torch.testing.assert_close(given, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_head_tied_to_its_embedding_gets_both_gradients(name: str):
    """One matrix that embeds tokens and is the head; a layer between."""
    _, weight, _, signal = inputs()
    weight.requires_grad_()
    states = functional.embedding(torch.arange(N) % 4, weight).tanh()
    (wanted,) = gradients(OBJECTIVES[name](states @ weight.T, signal, torch.ones(N).bool()).sum, weight)
    states = functional.embedding(torch.arange(N) % 4, weight).tanh()
    (given,) = gradients(linear_loss(states, weight, signal, OBJECTIVES[name], chunk_tokens=4).sum, weight)
    torch.testing.assert_close(given, wanted, rtol=1e-12, atol=1e-12)


def test_sparse_and_mixed_signals_are_cut_with_the_tokens():
    """The plain loss again, for signals of other forms, mixtures with weights of each token's own."""
    hidden, weight, _, _ = inputs()
    hidden.requires_grad_()
    teacher, other = normal(N, V, seed=5), normal(N, V + 3, seed=6)
    weights = normal(N, 2, seed=7).softmax(-1)
    for signal in (teacher, sparse(teacher, 4), Mixed([teacher, other], weights)):
        plain = forward_kl(hidden @ weight.T, signal, torch.ones(N).bool())
        chunked = linear_loss(hidden, weight, signal, forward_kl, chunk_tokens=4)
        torch.testing.assert_close(chunked.sum, plain.sum, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients(chunked.sum, hidden), gradients(plain.sum, hidden), rtol=1e-12, atol=1e-12)


def test_no_tensor_of_tokens_times_vocabulary_is_seen():
    """The largest logits that an objective is given, and the largest that the teacher's head makes."""
    hidden, weight, _, signal = inputs()
    seen: list[int] = []

    def watched(student_logits: Tensor, signal: Signal, mask: Tensor, /) -> SumCount:
        assert isinstance(signal, Labelled) and isinstance(signal.teacher, Tensor)
        seen.extend([student_logits.numel(), signal.teacher.numel()])
        return forward_kl(student_logits, signal, mask)

    linear_loss(hidden.requires_grad_(), weight, signal, watched, chunk_tokens=2).sum.backward()
    assert max(seen) == 2 * V and sum(seen) == 2 * N * V


def test_only_the_gradients_that_are_wanted_are_made():
    """A frozen head, and no gradient at all: the objective is asked for none."""
    hidden, weight, _, signal = inputs()
    loss = linear_loss(hidden.requires_grad_(), weight, signal, reverse_kl, chunk_tokens=3).sum
    loss.backward()
    assert hidden.grad is not None and weight.grad is None
    wanted: list[bool] = []

    def watched(student_logits: Tensor, signal: Signal, mask: Tensor, /) -> SumCount:
        wanted.append(student_logits.requires_grad)
        return reverse_kl(student_logits, signal, mask)

    with torch.no_grad():
        plain = linear_loss(hidden, weight, signal, watched, chunk_tokens=3).sum
    assert wanted == [False] * 4 and plain.item() == loss.item()


def test_no_token_is_0_and_no_gradient():
    hidden, weight = torch.zeros(0, H).double().requires_grad_(), inputs()[1]
    loss, n = linear_loss(hidden, weight.requires_grad_(), torch.zeros(0, V).double(), forward_kl)
    loss.backward()
    assert (loss.item(), n.item()) == (0, 0)
    assert weight.grad is not None and not weight.grad.any()


def test_autocast_makes_logits_in_its_type_and_gradients_in_the_parameters():
    """bfloat16 on the CPU: within its rounding of float32's, and float32 gradients."""
    *parameters, signal = inputs()
    of: Any = tuple(one.float().requires_grad_() for one in parameters)
    hidden, weight, bias = of
    wanted = linear_loss(hidden, weight, signal, forward_kl, bias=bias, chunk_tokens=3).sum
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = linear_loss(hidden, weight, signal, forward_kl, bias=bias, chunk_tokens=3).sum
    torch.testing.assert_close(given, wanted, rtol=0.02, atol=0)
    for one, other in zip(gradients(given, *of), gradients(wanted, *of), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * other.abs().max().item())


@pytest.mark.parametrize("chunk_tokens", [1, 4, None])
def test_log_probs_of_tokens(chunk_tokens: int | None):
    """Cross-entropy of torch, token by token, and its gradients for a weight of each token's own."""
    hidden, weight, bias, _ = inputs()
    of = tuple(one.requires_grad_() for one in (hidden, weight, bias))
    tokens, weights = torch.arange(N) % V, normal(N, seed=8)
    wanted = -functional.cross_entropy(functional.linear(*of), tokens, reduction="none")
    given = token_log_probs(hidden, weight, tokens, bias=bias, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(given, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradients((weights * given).sum(), *of), gradients((weights * wanted).sum(), *of), rtol=1e-12, atol=1e-12
    )


def test_finite_differences():
    """Through both functions, as autograd sees them."""
    hidden, weight, bias, signal = inputs()
    of = tuple(one.requires_grad_() for one in (hidden, weight, bias))
    tokens = torch.arange(N) % V
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_loss(h, w, signal, reverse_kl, bias=b, chunk_tokens=4).sum, of
    )
    assert torch.autograd.gradcheck(lambda h, w, b: token_log_probs(h, w, tokens, bias=b, chunk_tokens=4), of)


def test_bad_input_is_named():
    hidden, weight, _, signal = inputs()
    with pytest.raises(ValueError, match="chunk_tokens 0: must be 1 or more"):
        linear_loss(hidden, weight, signal, forward_kl, chunk_tokens=0)
    with pytest.raises(ValueError, match=r"states \(11, 5\) and tokens \(3,\)"):
        token_log_probs(hidden, weight, torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"signal of \(3,\) tokens"):
        linear_loss(hidden, weight, normal(3, V), forward_kl)
