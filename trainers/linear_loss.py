"""The loss of a linear head without its logits: states times head in chunks, whose gradients are made on the way.

A chunk's logits, loss and gradients exist only while the chunk is at work, for the student and for a teacher that is
given as states and head, so that memory holds no (tokens, vocabulary) tensor. Each logit is computed once: gradients of
states and head are ready when the loss is, where recomputing them would cost the head a second time.

Source: Hsu et al. Liger Kernel: Efficient Triton Kernels for LLM Training. 2024. arXiv:2410.10989, section 3.2, for any
objective. Departures: sums in place of means, any number of tokens in the last chunk.

Axes: N tokens, V vocabulary, H width.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from trainers.objectives import SumCount
from trainers.signals import Signal, chunk

CHUNK_BYTES = 2**27  # of a chunk's logits: the head's gradient is read and written once a chunk, so not too few tokens
PIECE_BYTES = 2**25 - 2**12  # of what an objective sees at a time: glibc gives larger blocks back, and they cost faults


class LogitsLoss(Protocol):
    """An objective with its options set."""

    def __call__(self, student_logits: Tensor, signal: Signal, mask: Tensor, /) -> SumCount:
        """The loss summed over the tokens under the mask, and their number."""
        ...


def linear_loss(
    hidden: Tensor,
    weight: Tensor,
    signal: Signal,
    objective: LogitsLoss,
    *,
    bias: Tensor | None = None,
    chunk_tokens: int | None = None,
) -> SumCount:
    """`objective(hidden @ weight.T + bias, signal, all)`, its value and gradients, to rounding.

    Under autocast, logits are made in its type, and gradients are added up in the parameters'.

    Args:
        hidden: (N, H), the student's states at the learned tokens.
        weight: (V, H) of its head, tied to its embedding or not.
        signal: of N tokens, of a kind that the objective takes.
        objective: with its options set; of each token alone, so that its sum over chunks is its sum over all.
        bias: (V,) of the head, if it has one.
        chunk_tokens: how many tokens at a time; by `CHUNK_BYTES` if None.

    Returns:
        Sum in the objective's unit, with a gradient of the first order, and the number of tokens.

    Raises:
        ValueError: `chunk_tokens` is not positive, or what the objective says.
    """
    size = _chunk_tokens(hidden, weight, chunk_tokens)
    given = (hidden, weight, bias)
    wanted = tuple(torch.is_grad_enabled() and one is not None and one.requires_grad for one in given)
    total, n = cast("tuple[Tensor, Tensor]", _LinearLoss.apply(*given, signal, objective, size, wanted))
    return SumCount(total, n)


def token_log_probs(
    hidden: Tensor, weight: Tensor, tokens: Tensor, *, bias: Tensor | None = None, chunk_tokens: int | None = None
) -> Tensor:
    """Log-probs of given tokens, for what is no sum over tokens; logits are made again for the gradient.

    Args:
        hidden: (N, H).
        weight: (V, H).
        tokens: (N,) int64.
        bias: (V,), if there is one.
        chunk_tokens: how many tokens at a time; by `CHUNK_BYTES` if None.

    Returns:
        (N,) in nats, at least float32.

    Raises:
        ValueError: shapes disagree, or `chunk_tokens` is not positive.
    """
    if tokens.shape != hidden.shape[:-1]:
        raise ValueError(f"states {tuple(hidden.shape)} and tokens {tuple(tokens.shape)}: needs (N, H) and (N,)")
    size = _chunk_tokens(hidden, weight, chunk_tokens)
    return cast("Tensor", _TokenLogProbs.apply(hidden, weight, bias, tokens.to(hidden.device), size))


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        signal: Signal,
        objective: LogitsLoss,
        size: int,
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor, Tensor]:
        kind = _type_of_logits(hidden)
        head, offset = weight.detach().to(kind), None if bias is None else bias.detach().to(kind)
        gradients = _zeros((hidden, weight, bias), wanted)
        total = hidden.new_zeros((), dtype=torch.promote_types(kind, torch.float32))
        room = torch.empty(min(size, len(hidden)), len(weight), dtype=kind, device=hidden.device)  # for every chunk
        n = torch.zeros((), dtype=torch.int64, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, max(len(hidden), 1), size):
                rows = slice(start, start + size)
                states = hidden[rows].detach().to(kind)
                logits = torch.mm(states, head.T, out=room[: len(states)])
                if offset is not None:
                    logits += offset
                part = _to_slopes(logits, chunk(signal, start, start + size), objective, any(wanted))
                total += part.sum
                n += part.n
                if any(wanted):
                    _add(gradients, rows, logits, states, head)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(n)
        return total, n

    @staticmethod
    def backward(ctx: Any, *of_outputs: Tensor) -> tuple[Any, ...]:
        factor = of_outputs[0]
        is_one = bool(factor == 1)
        scaled = [one if one is None or is_one else one * factor.to(one.dtype) for one in ctx.gradients]
        return *scaled, None, None, None, None


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, size: int) -> Tensor:
        kind = _type_of_logits(hidden)
        head, offset = weight.to(kind), None if bias is None else bias.to(kind)
        found: list[Tensor] = []
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, max(len(hidden), 1), size):
                logits = _logits(hidden[start : start + size].to(kind), head, offset)
                given = logits.gather(1, tokens[start : start + size, None])[:, 0]
                found.append(given - logits.logsumexp(dim=-1))
        log_probs = torch.cat(found)
        ctx.save_for_backward(hidden, weight, bias, tokens)
        ctx.kind, ctx.size = kind, size
        return log_probs

    @staticmethod
    def backward(ctx: Any, *of_outputs: Tensor) -> tuple[Any, ...]:
        hidden, weight, bias, tokens = ctx.saved_tensors
        head, offset = weight.to(ctx.kind), None if bias is None else bias.to(ctx.kind)
        gradients = _zeros((hidden, weight, bias), ctx.needs_input_grad[:3])
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), ctx.size):
                rows = slice(start, start + ctx.size)
                states, factor = hidden[rows].to(ctx.kind), of_outputs[0][rows, None]
                slope = _logits(states, head, offset).softmax(dim=-1).mul_(-factor)
                slope.scatter_add_(1, tokens[rows, None], factor)
                _add(gradients, rows, slope.to(ctx.kind), states, head)
        return *gradients, None, None


def _zeros(parameters: Sequence[Tensor | None], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    return tuple(
        torch.zeros_like(one) if one is not None and needed else None
        for one, needed in zip(parameters, wanted, strict=True)
    )


def _to_slopes(logits: Tensor, signal: Signal, objective: LogitsLoss, wanted: bool) -> SumCount:
    """The objective of a chunk, piece after piece; its gradient takes the place of `logits` where it is wanted."""
    total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
    n = torch.zeros((), dtype=torch.int64, device=logits.device)
    size = _even(len(logits), PIECE_BYTES // (logits.shape[-1] * logits.element_size()))
    for start in range(0, max(len(logits), 1), size):
        with torch.enable_grad():
            piece = logits[start : start + size].detach().requires_grad_(wanted)
            mask = torch.ones(len(piece), dtype=torch.bool, device=piece.device)
            part = objective(piece, chunk(signal, start, start + size), mask)
        total += part.sum.detach()
        n += part.n
        if wanted:
            logits[start : start + size] = torch.autograd.grad(part.sum, piece)[0]
    return SumCount(total, n)


def _add(gradients: tuple[Tensor | None, ...], rows: slice, slope: Tensor, states: Tensor, head: Tensor) -> None:
    """Add a chunk's part to the gradients of states, head and bias, given its loss's by the logits."""
    of_hidden, of_weight, of_bias = gradients
    if of_hidden is not None:
        of_hidden[rows] = slope @ head
    if of_weight is not None:
        if of_weight.dtype == slope.dtype:
            of_weight.addmm_(slope.T, states)
        else:
            of_weight += slope.T @ states
    if of_bias is not None:
        of_bias += slope.sum(dim=0)


def _logits(states: Tensor, head: Tensor, offset: Tensor | None) -> Tensor:
    logits = functional.linear(states, head, offset)
    return logits.float() if logits.element_size() < 4 else logits


def _type_of_logits(hidden: Tensor) -> torch.dtype:
    """Autocast's, where it is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _chunk_tokens(hidden: Tensor, weight: Tensor, chunk_tokens: int | None) -> int:
    if chunk_tokens is None:
        return _even(len(hidden), CHUNK_BYTES // (len(weight) * hidden.element_size()))
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens {chunk_tokens}: must be 1 or more")
    return chunk_tokens


def _even(n: int, most: int) -> int:
    """The size of equal parts of `n`, at most `most` each, but at least 1."""
    n_parts = -(-n // max(1, most))
    return -(-n // n_parts) if n_parts else 1
