"""The loss of some rows: an objective, on a student's hidden states and head, against a teacher's signal.

Axes: N learned tokens, H hidden, V vocabulary.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from datagen.contracts.errors import DataError
from trainers import loop
from trainers.batches import Batch, arrange
from trainers.linear_loss import LogitsLoss, linear_loss
from trainers.lm_rows import LearnedRow
from trainers.objectives import SumCount
from trainers.objectives.likelihood_matching import likelihood_matching_of_hidden
from trainers.signals import Labelled, Signal, SparseLogProbs, between
from trainers.teachers import Teacher
from trainers.weighted import combined

Watch = Callable[[list[tuple[str, SumCount]]], None]  # domains, and the loss of each one's rows
LossOfRows = Callable[[nn.Module, Sequence[LearnedRow], torch.device], SumCount]
_N_NAMED = 5  # rows that an error names


class OfRollouts:
    """An objective as it is of the student's own answers: on the teacher's likeliest tokens, and not of every token."""

    def __init__(self, objective: LogitsLoss, *, support_k: int | None, unlearned: frozenset[int]) -> None:
        """Change `objective`; without `support_k` it sees the whole vocabulary, `unlearned` tokens do not count."""
        self._objective, self._support_k, self._unlearned = objective, support_k, sorted(unlearned)

    def __call__(self, student_logits: Tensor, signal: Any, mask: Tensor) -> SumCount:
        """The objective of Labelled tokens."""
        teacher = signal.teacher
        if self._unlearned:
            mask = mask & ~torch.isin(signal.tokens.to(mask.device), torch.tensor(self._unlearned, device=mask.device))
        if self._support_k:
            student_logits, teacher = within_support(student_logits, teacher, self._support_k)
        return self._objective(student_logits, Labelled(signal.tokens, teacher), mask)


def within_support(student_logits: Tensor, teacher: Tensor | SparseLogProbs, k: int) -> tuple[Tensor, Tensor]:
    """Logits of both, (N, k), for the teacher's k likeliest tokens: each model's mass on them becomes 1.

    Raises:
        ValueError: the teacher's entries were drawn, or it has fewer than k.
    """
    if isinstance(teacher, Tensor):
        size = min(teacher.shape[-1], student_logits.shape[-1])
        values, ids = teacher[:, :size].topk(min(k, size), dim=-1)
        return student_logits.gather(1, ids.to(student_logits.device)), values
    if teacher.draws or teacher.ids.shape[1] < k:
        raise ValueError(
            f"rollout_support_k {k}: the teacher has {teacher.ids.shape[1]} entries a token, or draws them"
        )
    values, places = teacher.log_weights.topk(k, dim=-1)
    ids = teacher.ids.gather(1, places).to(student_logits.device)
    padding = values.isneginf().to(student_logits.device)
    return student_logits.gather(1, ids).masked_fill(padding, -torch.inf), values


class States:
    """Several states as one, told in order."""

    def __init__(self, states: Mapping[str, loop.State]) -> None:
        """States by the name that they have in checkpoints."""
        self._states = dict(states)

    @property
    def needs_first_pass(self) -> bool:
        """Whether one of them looks at a step's rows before."""
        return any(isinstance(one, loop.FirstPass) and one.needs_first_pass for one in self._states.values())

    def begin(self, mean_loss: Callable[[], float]) -> None:
        """Tell those that look at a step's rows before."""
        for state in self._states.values():
            if isinstance(state, loop.FirstPass) and state.needs_first_pass:
                state.begin(mean_loss)

    def update(self, loss: float, step: int, n_steps: int) -> Mapping[str, float]:
        """What all of them say."""
        said: dict[str, float] = {}
        for state in self._states.values():
            said |= state.update(loss, step, n_steps)
        return said

    def state_dict(self) -> dict[str, Any]:
        """All of theirs."""
        return {name: state.state_dict() for name, state in self._states.items()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from `state_dict`'s."""
        for name, one in self._states.items():
            one.load_state_dict(state[name])


class RowsLoss:
    """What the loop calls; with a teacher its signal and the tokens go to the objective, without one the tokens."""

    def __init__(
        self,
        objective: LogitsLoss | None,
        teacher: Teacher | None,
        *,
        layout: loop.Layout = "padded",
        matching: Mapping[str, float] | None = None,
        of_rollouts: LogitsLoss | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Take an objective of logits, likelihood matching, or both.

        Args:
            objective: of a chunk's logits, or None.
            teacher: where an objective needs one.
            layout: of batches.
            matching: weight, temperature and epsilon of likelihood matching, or None.
            of_rollouts: what takes the objective's place for rows that the student drew.
            watch: told, once a call, of the objective's loss of each domain, whose rows then come together.
        """
        self._of_rollouts = of_rollouts or objective
        self._objective, self._teacher = objective, teacher
        self._layout: loop.Layout = layout
        self._matching = dict(matching) if matching else None
        self._watch = watch

    def __call__(self, network: nn.Module, rows: Sequence[LearnedRow], device: torch.device) -> SumCount:
        """Of rows, on a device.

        Raises:
            DataError: the objective is not defined on them, as where the teacher's logits are -inf.
        """
        if self._watch:
            rows = sorted(rows, key=lambda row: row.domain)
        examples, batch = arrange([row.example for row in rows], self._layout)
        by_example = {id(row.example): row for row in rows}
        ordered = [by_example[id(example)] for example in examples]
        batch = batch.to(device)
        try:
            return network(batch, self._loss_of(ordered, batch))
        except ValueError as error:
            named = ", ".join(repr(row.id) for row in rows[:_N_NAMED])
            more = f" and {len(rows) - _N_NAMED} more" if len(rows) > _N_NAMED else ""
            raise DataError(f"rows {named}{more}: {error}") from error

    def _loss_of(self, rows: Sequence[LearnedRow], batch: Batch) -> Callable[[Tensor, Tensor, Tensor | None], SumCount]:
        tokens = batch.labels
        found: Any = self._teacher.signal(rows, batch) if self._teacher else None

        def loss_of(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> SumCount:
            parts: list[SumCount] = []
            objective = self._of_rollouts if rows[0].drawn else self._objective
            if objective is not None:
                signal: Signal = tokens if found is None or self._matching else Labelled(tokens, found)
                of_signal = self._by_domain(rows) if self._watch else linear_loss
                parts.append(of_signal(hidden, weight, signal, objective, bias=bias))
            if self._matching and found is not None:
                options = {name: value for name, value in self._matching.items() if name != "weight"}
                part = likelihood_matching_of_hidden(hidden, weight, found, bias=bias, **options)
                parts.append(SumCount(self._matching.get("weight", 1.0) * part.sum, part.n))
            total = parts[0].sum
            for part in parts[1:]:
                total = total + part.sum
            return SumCount(total, parts[0].n)

        return loss_of

    def _by_domain(self, rows: Sequence[LearnedRow]) -> Callable[..., SumCount]:
        """`linear_loss` of each run of one domain's rows, and their sum."""

        def of_runs(
            hidden: Tensor, weight: Tensor, signal: Signal, objective: LogitsLoss, *, bias: Tensor | None
        ) -> SumCount:
            found: list[tuple[str, SumCount]] = []
            start = 0
            for domain, run in itertools.groupby(rows, key=lambda row: row.domain):
                stop = start + sum(row.example.n_completion_tokens for row in run)
                part = between(signal, start, stop)
                found.append((domain, linear_loss(hidden[start:stop], weight, part, objective, bias=bias)))
                start = stop
            if self._watch:
                self._watch(found)
            sums, counts = zip(*(one for _, one in found), strict=True)
            return SumCount(torch.stack(sums).sum(), torch.stack(counts).sum())

        return of_runs


def held_out_loss(rows: Sequence[LearnedRow], config: loop.Config) -> Callable[[nn.Module], float]:
    """A judge for the loop: mean negative log-likelihood in nats a token of rows that are not learned."""
    loss = RowsLoss(combined("supervised"), None, layout=config.layout)
    (parts,) = loop.micro_batches(rows, config.micro_batch_tokens, 1)

    def judge(network: nn.Module) -> float:
        device = next(network.parameters()).device
        found = [loss(network, part, device) for part in parts]
        return sum(float(one.sum) for one in found) / sum(int(one.n) for one in found)

    return judge
