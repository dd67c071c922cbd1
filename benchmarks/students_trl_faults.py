"""Known faults of public trainers, each tried on TRL's two distillation losses and on ours.

Used by `benchmarks.students_trl`. TRL's own code is called as it is: `_chunked_divergence_loss` of its stable trainer,
with heads that are the identity so that states are logits and a bias for -inf, and `generalized_jsd_loss` of its GKD
trainer. A fault is there where the value is further from the exact one than rounding, or not finite.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from trl.experimental.gkd import GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from trainers.objectives.forward_kl import forward_kl
from trainers.objectives.jensen_shannon import jensen_shannon
from trainers.objectives.reverse_kl import reverse_kl

# student logits (N, V), teacher logits, mask (N,), beta, number of tokens in the step or None: the loss
Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor, float, int | None], Tensor]
TOLERANCE = 1e-5
JSD = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)


def stable(student: Tensor, teacher: Tensor, mask: Tensor, beta: float, n: int | None) -> Tensor:
    """Of `DistillationTrainer`; an infinite logit is put into the bias."""
    closed = student[0].detach().isneginf()
    bias = torch.zeros(student.shape[-1]).masked_fill(closed, -torch.inf) if bool(closed.any()) else None
    mine, theirs = (logits.masked_fill(closed, 0.0)[None] for logits in (student, teacher))
    head, other = (torch.eye(logits.shape[-1]) for logits in (student, teacher))
    return _chunked_divergence_loss(
        mine,
        theirs,
        head,
        other,
        mask[None],
        beta,
        num_items_in_batch=n,
        student_lm_head_bias=bias,
        teacher_lm_head_bias=bias,
    )[0]


def gkd(student: Tensor, teacher: Tensor, mask: Tensor, beta: float, n: int | None) -> Tensor:
    """Of the experimental `GKDTrainer`."""
    labels = torch.where(mask, 0, -100)[None]
    return GKDTrainer.generalized_jsd_loss(student[None], teacher[None], labels, beta=beta, num_items_in_batch=n)


def ours(student: Tensor, teacher: Tensor, mask: Tensor, beta: float, n: int | None) -> Tensor:
    """What the loop makes of it: the sum over all tokens of the step, divided once."""
    part = (
        forward_kl(student, teacher, mask)
        if beta == 0
        else reverse_kl(student, teacher, mask)
        if beta == 1
        else jensen_shannon(student, teacher, mask, weight_of_teacher=beta)
    )
    return part.sum / max(n or int(part.n), 1)


LOSSES: dict[str, Loss] = {"TRL stable": stable, "TRL GKD": gkd, "ours": ours}


def probabilities_mixed_up(loss: Loss) -> float:
    """Jensen-Shannon of (.9, .1) and (.1, .9) is 0.368064 nats; log-probs in place of probabilities give another."""
    first, second = (torch.tensor([pair]).log() for pair in ((0.9, 0.1), (0.1, 0.9)))
    return abs(loss(first, second, torch.ones(1).bool(), 0.5, 1).item() - JSD)


def mean_of_means(loss: Loss) -> float:
    """Gradients of two micro-batches of 1 and 9 tokens against those of all 10 at once, given the step's count."""
    student, teacher = _normal(10, 7, seed=0), _normal(10, 7, seed=1)
    parts = [_gradient(loss, student[cut], teacher[cut], n=10) for cut in (slice(0, 1), slice(1, 10))]
    return _distance(torch.cat(parts), _gradient(loss, student, teacher, n=10))


def infinite_logits(loss: Loss) -> float:
    """A token that both models exclude by a logit of -inf: value and gradient are those without it, beta 0, 1/2, 1."""
    student, teacher = _normal(4, 7, seed=0), _normal(4, 7, seed=1)
    nothing = torch.full((4, 1), -torch.inf)
    padded = [torch.cat([logits, nothing], 1) for logits in (student, teacher)]
    found = [
        _distance(_gradient(loss, padded[0], padded[1], beta)[:, :7], _gradient(loss, student, teacher, beta))
        for beta in (0.0, 0.5, 1.0)
    ]
    return math.nan if any(map(math.isnan, found)) else max(found)


def nothing_under_the_mask(loss: Loss) -> float:
    """A micro-batch without a learned token: 0, not 0 / 0."""
    return abs(loss(_normal(3, 5, seed=0), _normal(3, 5, seed=1), torch.zeros(3).bool(), 0.5, None).item())


def a_jump_at_the_ends(loss: Loss) -> float:
    """Jensen-Shannon goes to 0 with beta; forward KL in its place at 0 is a jump. Ours has two names for the two."""
    first, second = (torch.tensor([pair]).log() for pair in ((0.9, 0.1), (0.1, 0.9)))
    mask = torch.ones(1).bool()
    if loss is ours:
        return jensen_shannon(first, second, mask, weight_of_teacher=0.0).sum.item()
    return abs((loss(first, second, mask, 1e-6, 1) - loss(first, second, mask, 0.0, 1)).item())


def padding_counts(loss: Loss) -> float:
    """A teacher with 128 logits more than the student's 1,000, all else equal: 0, and no padding with zeros."""
    student = _normal(3, 1000, seed=0)
    wider = torch.cat([student, _normal(3, 128, seed=1)], 1)
    return abs(loss(student, wider, torch.ones(3).bool(), 0.0, 3).item())


FAULTS = {
    "log-probs mixed for probabilities": probabilities_mixed_up,
    "mean of means over micro-batches": mean_of_means,
    "NaN from -inf logits": infinite_logits,
    "0 / 0 where all is masked": nothing_under_the_mask,
    "the loss jumps at beta 0": a_jump_at_the_ends,
    "padded vocabularies": padding_counts,
}


def faults() -> list[dict[str, Any]]:
    """By fault and loss: whether it is there, the distance from the exact answer; `refused` where an error says so."""
    rows: list[dict[str, Any]] = []
    for name, check in FAULTS.items():
        row: dict[str, Any] = {"fault": name}
        for whose, loss in LOSSES.items():
            try:
                distance = check(loss)
            except (ValueError, RuntimeError, IndexError) as error:
                row[whose] = f"refused: {str(error).splitlines()[0][:80]}"
            else:
                there = "no" if distance <= TOLERANCE else "YES"
                row[whose] = f"{there} ({distance:.2g})"
        rows.append(row)
    return rows


def _normal(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _gradient(loss: Loss, student: Tensor, teacher: Tensor, beta: float = 0.5, n: int = 4) -> Tensor:
    logits = student.clone().requires_grad_()
    value = loss(logits, teacher, torch.ones(len(student)).bool(), beta, n)
    (found,) = torch.autograd.grad(value, logits)
    return found if bool(value.isfinite()) else torch.full_like(found, torch.nan)


def _distance(one: Tensor, other: Tensor) -> float:
    """Largest difference; NaN where any is."""
    return (one - other).abs().max().item()
