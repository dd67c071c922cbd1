"""What a teacher gives for the tokens that a student learns, and both models' log-probs over outcomes in common.

A signal is one of five things: logits, a few log-probs, hidden states with their head, several teachers at once, or
tokens alone. Rows stand for tokens, "sequence after sequence" as in `Batch.labels`. `outcomes` turns every one that is
a distribution into log-probs over outcomes that exclude each other, so a divergence is one formula for all: the
outcomes are the vocabulary where the teacher gives all of it, else its entries and, as one, all the other tokens.

Axes: N tokens, V vocabulary, E entries of a token, H width of hidden states, K teachers.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

LEAST_LOG_TAIL = -24 * math.log(2)  # log-probs of entries are sums in float32: less is rounding
LOG_ZERO = -1e4  # stands for log 0: finite, so that 0 times it is 0, and its exponential is 0 in every float type

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SparseLogProbs:
    """Estimates of a teacher's distributions at temperature 1. Ids of a token differ, but for padding.

    Attributes:
        ids: (N, E) int64; 0 where `log_weights` is -inf.
        log_weights: (N, E) float64: a token's log-prob where it is known, and for a drawn token the log of a weight
            whose mean over draws is its probability; -inf is padding.
        log_tail: (N,) float64: log mass of all tokens that are no entries; -inf where the entries stand for everything,
            or where rounding left the others nothing, which counts as a mass of 2^-24.
        draws: whether entries were drawn: then only what is linear in the teacher's probabilities is unbiased.
        vocabulary: how many logits the teacher has, where that is known.
    """

    ids: Tensor
    log_weights: Tensor
    log_tail: Tensor
    draws: bool = False
    vocabulary: int | None = None


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """A teacher's last states and its head: logits are made of a chunk of tokens at a time.

    Attributes:
        hidden: (N, H), any float type, on any device.
        weight: (V, H) of the head.
        bias: (V,) of the head, if it has one.
        vocabulary: rows of the head that count, all if None; those behind are padding.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    vocabulary: int | None = None


@dataclass(frozen=True, slots=True)
class Mixed:
    """Several teachers: p = sum over k of w_k p_k, over the vocabulary that all of them have.

    Attributes:
        signals: K of logits or HiddenStates.
        weights: (K,), or (N, K) where they differ by token; not negative, and their sum is 1.
    """

    signals: "Sequence[Tensor | HiddenStates]"
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Labelled:
    """Tokens and what a teacher gives for them: for an objective of both.

    Attributes:
        tokens: (N,) int64.
        teacher: any other signal.
    """

    tokens: Tensor
    teacher: "Tensor | SparseLogProbs | HiddenStates | Mixed"


Signal: TypeAlias = Tensor | SparseLogProbs | HiddenStates | Mixed | Labelled


class Outcomes(NamedTuple):
    """Log-probs of student and teacher over the same outcomes; log 0 is `LOG_ZERO`.

    Attributes:
        log_q: (N, V) or (N, E + 1), the student's, with a gradient.
        log_p: likewise the teacher's, without.
    """

    log_q: Tensor
    log_p: Tensor


def chunk(signal: Signal, start: int, stop: int) -> Tensor | SparseLogProbs | Labelled:
    """The signal of the tokens from `start` to before `stop`; hidden states and mixtures become (stop - start, V).

    Raises:
        ValueError: a mixture of sparse signals, whose entries are of different tokens.
    """
    return _dense(_rows(signal, slice(start, stop)))


def between(signal: Signal, start: int, stop: int) -> Any:
    """The signal of the tokens from `start` to before `stop`, of the kind that it is."""
    return _rows(signal, slice(start, stop))


def outcomes(student_logits: Tensor, signal: Signal, mask: Tensor, temperature: float = 1.0) -> Outcomes:
    """Log-probs of the tokens under `mask` at `temperature`.

    Where the vocabularies differ in size, by padding of the one or the other, both are cut to the smaller and the mass
    that is left is 1 again; the log says so once.

    Args:
        student_logits: (..., V), any float type; half precision is taken to float32.
        signal: of the same (...): logits, SparseLogProbs without draws, HiddenStates or Mixed.
        mask: (...) bool.
        temperature: above 0, divides the logits of both.

    Raises:
        ValueError: shapes disagree, the signal is of tokens or drawn, or a sparse one at another temperature than 1.
    """
    student, teacher = under(student_logits, signal, mask)
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: must be above 0")
    if isinstance(teacher, Tensor):
        log_q, log_p = _both_dense(student, teacher, temperature)
    else:
        log_q, log_p = _both_sparse(student, teacher, temperature)
    return Outcomes(_finite(log_q), _finite(log_p))


def under(student_logits: Tensor, signal: Signal, mask: Tensor) -> tuple[Tensor, Tensor | SparseLogProbs]:
    """The student's logits, at least float32, and the signal, of the tokens under `mask` only: (N, V) and N rows.

    Raises:
        ValueError: shapes disagree, or the signal is of tokens alone.
    """
    if isinstance(signal, Labelled):
        signal = signal.teacher
    if not student_logits.shape[:-1] == mask.shape == _shape(signal):
        raise ValueError(
            f"logits {tuple(student_logits.shape)}, signal of {tuple(_shape(signal))} tokens and mask "
            f"{tuple(mask.shape)}: needs (..., V), (...) and (...)"
        )
    if isinstance(signal, Tensor) and not signal.is_floating_point():
        raise ValueError(f"a signal of {signal.dtype}: a divergence needs a teacher's logits, supervised takes tokens")
    if bool(mask.all()):
        student, teacher = student_logits.flatten(0, -2), _rows(signal, None)
    else:
        student, teacher = student_logits[mask], _rows(signal, mask)
    student = student.float() if student.element_size() < 4 else student
    found = _dense(teacher)
    assert not isinstance(found, Labelled)
    return student, found


def drawn(student_logits: Tensor, signal: SparseLogProbs, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(N, E) log-probs of the student for a sparse signal's entries, and the entries' weights; 0 for padding.

    Raises:
        ValueError: shapes disagree, or a token is none of the student's.
    """
    student, teacher = under(student_logits, signal, mask)
    assert isinstance(teacher, SparseLogProbs)
    student, teacher = _same_vocabulary(student, teacher)
    log_q = _buckets(student, teacher.ids, ~teacher.log_weights.isneginf()).log_softmax(dim=-1)[:, :-1]
    return _finite(log_q), teacher.log_weights.exp().to(log_q)


def summed(log_q: Tensor, values: Tensor, slope: Tensor) -> Tensor:
    """The sum of `values`, whose gradient by `log_q` is `slope`: what autograd would keep is not kept.

    Args:
        log_q: (N, outcomes), with a gradient.
        values: without one.
        slope: as `log_q`, without one; up to a constant in each row times q, which softmax takes away.
    """
    return cast("Tensor", _Summed.apply(log_q, values.sum(), slope))


def refuse_infinite(weighing: Tensor, other: Tensor, what: str) -> None:
    """Refuse a divergence that is infinite, as it weighs by one distribution what has no probability in the other.

    Raises:
        ValueError: `what`, with the first such token.
    """
    if not other.numel() or float(other.detach().amin()) > LOG_ZERO:
        return
    impossible = (weighing.detach() > LOG_ZERO) & (other.detach() <= LOG_ZERO)
    if bool(impossible.any()):
        row, outcome = impossible.nonzero()[0].tolist()
        raise ValueError(
            f"{what} (learned token {row}, outcome {outcome}); give logits that are -inf to both models, or to neither"
        )


def _both_dense(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    size = min(student.shape[-1], teacher.shape[-1])
    if student.shape[-1] != teacher.shape[-1]:
        _say_once(student.shape[-1], teacher.shape[-1])
        student, teacher = student[:, :size], teacher[:, :size]
    teacher = teacher.detach().to(student.device, torch.promote_types(teacher.dtype, student.dtype))
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    return student.log_softmax(dim=-1), teacher.log_softmax(dim=-1).to(student.dtype)


def _both_sparse(student: Tensor, teacher: SparseLogProbs, temperature: float) -> tuple[Tensor, Tensor]:
    if teacher.draws:
        raise ValueError(
            "a signal with drawn entries says only means over draws, and of them only forward_kl and supervised are "
            "made; take method=topk of teacher_signals"
        )
    if temperature != 1:
        raise ValueError(
            f"temperature {temperature}: a sparse signal is of temperature 1, and what others would give is lost; "
            "set temperature=1, or take an online teacher"
        )
    student, teacher = _same_vocabulary(student, teacher)
    given = ~teacher.log_weights.isneginf()
    lost = teacher.log_tail.isneginf() & (given.sum(dim=-1) < student.shape[-1])
    log_tail = teacher.log_tail.masked_fill(lost, LEAST_LOG_TAIL)
    log_p = torch.cat([teacher.log_weights, log_tail[:, None]], dim=1).to(student.device)
    log_p = log_p - log_p.logsumexp(dim=-1, keepdim=True)
    log_q = _buckets(student, teacher.ids, given).log_softmax(dim=-1)
    # The tail was summed in another order; what differs by rounding is equal, or total variation's gradient would jump.
    rounding = 8 * torch.finfo(log_q.dtype).eps * (1 + log_p.abs())
    equal = log_p.isfinite() & ((log_p - log_q.detach()).abs() <= rounding)
    return log_q, torch.where(equal, log_q.detach(), log_p.to(log_q.dtype))


def _same_vocabulary(student: Tensor, teacher: SparseLogProbs) -> tuple[Tensor, SparseLogProbs]:
    """Student logits cut to the teacher's vocabulary; a teacher's entries beyond the student's taken out."""
    n_student, n_teacher = student.shape[-1], teacher.vocabulary
    if n_teacher is not None and n_teacher != n_student:
        _say_once(n_student, n_teacher)
        student = student[:, :n_teacher]
    beyond = teacher.ids >= n_student
    if not teacher.ids.numel() or not bool(beyond.any()):
        return student, teacher
    if teacher.draws:
        raise ValueError(f"token {int(teacher.ids.max())} was drawn, and the student has {n_student} logits")
    _say_once(n_student, n_teacher or int(teacher.ids.max()) + 1)
    return student, replace(
        teacher,
        ids=teacher.ids.masked_fill(beyond, 0),
        log_weights=teacher.log_weights.masked_fill(beyond, -torch.inf),
    )


@cache
def _say_once(n_student: int, n_teacher: int) -> None:
    log.info(
        "student has %d logits, teacher %d: both are cut to the first %d, whose mass is made 1 again",
        n_student, n_teacher, min(n_student, n_teacher),
    )  # fmt: skip


def _buckets(student: Tensor, ids: Tensor, given: Tensor) -> Tensor:
    """(N, E + 1) logits of the outcomes: of each entry, -inf for padding, and of all other tokens as one."""
    entries, rest = cast("tuple[Tensor, Tensor]", _Buckets.apply(student, ids.to(student.device), given))
    return torch.cat([entries, rest[:, None]], dim=1)


class _Buckets(torch.autograd.Function):
    """Entries gathered and the rest's logsumexp, its gradient made in one tensor of the logits' size."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, ids: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        given = given.to(student.device)
        taken_out = torch.where(given, -torch.inf, torch.inf).to(student.dtype)  # padding takes out nothing
        others = student.scatter_reduce(1, ids, taken_out, "amin")
        rest = others.logsumexp(dim=-1)
        ctx.save_for_backward(others, rest, ids)
        return student.gather(1, ids).masked_fill(~given, -torch.inf), rest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        of_entries, of_rest = gradients
        others, rest, ids = ctx.saved_tensors
        empty = rest.isneginf()  # no token is left beside the entries
        share = (others - rest.masked_fill(empty, 0)[:, None]).exp_().mul_(of_rest.masked_fill(empty, 0)[:, None])
        return share.scatter_add_(1, ids, of_entries), None, None


class _Summed(torch.autograd.Function):
    """A value with a gradient that is known."""

    @staticmethod
    def forward(ctx: Any, log_q: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        (factor,) = gradients
        return slope if bool(factor == 1) else slope * factor, None, None


def _finite(log_probs: Tensor) -> Tensor:
    """`LOG_ZERO` for -inf, without a gradient there; the same tensor where there is none."""
    if not log_probs.numel() or float(log_probs.detach().amin()) >= LOG_ZERO:
        return log_probs
    return log_probs.clamp(min=LOG_ZERO)


def _dense(signal: Signal) -> Tensor | SparseLogProbs | Labelled:
    match signal:
        case Tensor() | SparseLogProbs():
            return signal
        case Labelled():
            teacher = _dense(signal.teacher)
            assert not isinstance(teacher, Labelled)
            return Labelled(signal.tokens, teacher)
        case HiddenStates():
            with torch.no_grad():
                bias = None if signal.bias is None else signal.bias[: signal.vocabulary]
                return torch.nn.functional.linear(signal.hidden, signal.weight[: signal.vocabulary], bias)
        case Mixed():
            return _mixture(signal)


def _mixture(mixed: Mixed) -> Tensor:
    """(N, V) log of the weighted sum of probabilities, in float32 at least."""
    parts = [_dense(signal) for signal in mixed.signals]
    dense = [part for part in parts if isinstance(part, Tensor)]
    if len(dense) < len(parts):
        raise ValueError("a mixture of sparse signals: their entries are of different tokens; mix online teachers")
    size = min(part.shape[-1] for part in dense)
    for part in dense:
        if part.shape[-1] != size:
            _say_once(size, part.shape[-1])
    device = dense[0].device
    logs = [part[:, :size].to(device, torch.promote_types(part.dtype, torch.float32)).log_softmax(-1) for part in dense]
    weights = mixed.weights.to(device, logs[0].dtype).expand(len(logs[0]), -1)
    total = logs[0] + weights[:, 0, None].log()
    for k, one in enumerate(logs[1:], start=1):
        total = torch.logaddexp(total, one + weights[:, k, None].log())
    return total


def _shape(signal: Signal) -> torch.Size:
    """The signal's (...): what it has a row for."""
    match signal:
        case Tensor():
            return signal.shape[:-1] if signal.is_floating_point() else signal.shape
        case SparseLogProbs():
            return signal.log_tail.shape
        case HiddenStates():
            return signal.hidden.shape[:-1]
        case Mixed():
            return _shape(signal.signals[0])
        case Labelled():
            return signal.tokens.shape


def _rows(signal: Signal, index: "slice | Tensor | None") -> Any:
    """The rows of `index`, in one dimension; all if None."""
    n_axes = len(_shape(signal))

    def take(tensor: Tensor) -> Tensor:
        if index is None:
            return tensor.flatten(0, n_axes - 1) if n_axes > 1 else tensor
        return tensor[index.to(tensor.device) if isinstance(index, Tensor) else index]

    match signal:
        case Tensor():
            return take(signal)
        case SparseLogProbs():
            names = [field.name for field in fields(signal) if isinstance(getattr(signal, field.name), Tensor)]
            return replace(signal, **{name: take(getattr(signal, name)) for name in names})
        case HiddenStates():
            return replace(signal, hidden=take(signal.hidden))
        case Mixed():
            weights = signal.weights if signal.weights.dim() == 1 else take(signal.weights)
            return Mixed([_rows(one, index) for one in signal.signals], weights)
        case Labelled():
            return Labelled(take(signal.tokens), _rows(signal.teacher, index))
