"""Approximate likelihood matching: the student finds pieces of a text as likely as a teacher of another tokenizer does.

Minixhofer, Vulić, Ponti. Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching. 2025.
arXiv:2503.20083: of each chunk that both tokenizers cut out of a text, the two outcomes "this chunk" and "anything
else", with likelihoods p = exp(log p / tau - eps); the divergence is forward KL without the teacher's entropy, which
has no gradient.

Axes: N learned tokens, C chunks, V the student's vocabulary.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from datagen.contracts.params import Params
from trainers.chunk_likelihoods import ChunkSignal, chunk_log_probs, log_probs_of_hidden
from trainers.objectives import SumCount


class Config(Params):
    """`temperature` is tau and `epsilon` eps of the paper's code; the defaults are its own."""

    temperature: float = Field(100.0, gt=0)
    epsilon: float = Field(1e-6, gt=0)


def likelihood_matching(
    student_logits: Tensor, signal: ChunkSignal, mask: Tensor, *, temperature: float = 100.0, epsilon: float = 1e-6
) -> SumCount:
    """-[p log q + (1 - p) log(1 - q)] of the chunks whose tokens are all under `mask`.

    The gradient is of the size of 1 / temperature: by a chunk's log q it is (q - p) / (1 - q) / temperature, which is 0
    where the likelihoods are equal, and nowhere else.

    Args:
        student_logits: (N, V), any float type; half precision is summed in float32.
        signal: the teacher's likelihoods of chunks of the N tokens.
        mask: (N,) bool, True for tokens that count.
        temperature: above 0.
        epsilon: above 0; keeps a likelihood of 1 below 1.

    Returns:
        Sum in nats over chunks, and the number of tokens under the mask, as every objective's, so that several can be
        weighed; an empty mask gives (0, 0).

    Raises:
        ValueError: shapes disagree.
    """
    if not student_logits.shape[:-1] == signal.tokens.shape == mask.shape:
        raise ValueError(
            f"logits {tuple(student_logits.shape)}, tokens {tuple(signal.tokens.shape)} and mask {tuple(mask.shape)}: "
            "likelihood_matching needs (N, V), (N,) and (N,)"
        )
    logits = student_logits.float() if student_logits.element_size() < 4 else student_logits
    log_probs = logits.masked_fill(~mask[:, None], 0.0).log_softmax(dim=-1)
    tokens = log_probs.gather(-1, signal.tokens[:, None]).squeeze(-1)
    words = log_probs[:, signal.starting_words].logsumexp(dim=-1)
    counted = signal.under(mask)
    losses = matched(chunk_log_probs(tokens, words, counted), counted.log_probs, temperature, epsilon)
    return SumCount(losses.sum(), mask.sum())


def likelihood_matching_of_hidden(
    hidden: Tensor,
    weight: Tensor,
    signal: ChunkSignal,
    *,
    bias: Tensor | None = None,
    temperature: float = 100.0,
    epsilon: float = 1e-6,
) -> SumCount:
    """The same loss from states (N, H) and a head, (V, H) and (V,); no (N, V) tensor exists."""
    both = log_probs_of_hidden(hidden, weight, signal.tokens, signal.starting_words, bias)
    losses = matched(chunk_log_probs(*both, signal), signal.log_probs, temperature, epsilon)
    return SumCount(losses.sum(), torch.tensor(len(signal.tokens), device=hidden.device))


def matched(student: Tensor, teacher: Tensor, temperature: float, epsilon: float) -> Tensor:
    """(C,) losses of given chunks.

    Args:
        student: (C,) log-probs, with a gradient.
        teacher: (C,) log-probs.
        temperature: above 0.
        epsilon: above 0.
    """
    log_q = student / temperature - epsilon
    log_p = teacher.to(log_q) / temperature - epsilon
    losses: Any = _BinaryCrossEntropy.apply(log_q, log_p)
    return losses


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, exact to rounding at both ends.

    Mächler. Accurately computing log(1 - exp(-|a|)). 2012: by expm1 above -ln 2, by log1p below it.
    """
    near = x > -math.log(2)
    return torch.where(
        near, torch.log(-torch.expm1(torch.where(near, x, -1.0))), torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    )


class _BinaryCrossEntropy(torch.autograd.Function):
    """Of log-likelihoods below 0; its gradient is a difference of likelihoods, so equal ones give 0 and no rounding."""

    @staticmethod
    def forward(ctx: Any, log_q: Tensor, log_p: Tensor) -> Tensor:
        """-[p log q + (1 - p) log(1 - q)]; nothing times an infinity is nothing."""
        ctx.save_for_backward(log_q, log_p)
        p = log_p.exp()
        return -(torch.where(p > 0, p * log_q, 0.0) - torch.expm1(log_p) * log1mexp(log_q))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        """(q - p) / (1 - q), from expm1 of both."""
        log_q, log_p = ctx.saved_tensors
        return grad_outputs[0] * (torch.expm1(log_p) - torch.expm1(log_q)) / torch.expm1(log_q), None
