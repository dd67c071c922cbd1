"""Draws of texts by domain, whose weights a rule renews on the way: the loop's `renew`, and what it keeps.

Every step draws `batch_size` sequences: weights are shares of sequences, which are shares of tokens where texts are cut
to one length. Of N domains with weights w a step of B takes floor or ceil of B w[i], B w[i] in expectation (systematic
sampling), not B independent draws: no step strays from the weights by a sequence or more. A domain has an order of its
own for each pass over it, and starts again where it is exhausted, as often as the weights want. Draws depend on seed
and step alone, so they are the same in every process and after a kill.

Source: none for the draws; the rules cite theirs.

Axes: D domains, in alphabetical order.
"""

import copy
import itertools
import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datagen.contracts.seeding import derive_seed
from datagen.mixture import Mix, MixRule, Seen
from trainers import loop
from trainers.lm_rows import LearnedRow

if TYPE_CHECKING:  # a stage reads Config without torch or numpy
    import numpy as np
    import torch

    from trainers.objectives import SumCount

Cursor = tuple[int, int]  # passes that are over, rows of this one that are drawn
ByDomain = Mapping[str, Sequence[LearnedRow]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of datagen/mixture with its own Config, and what it reads besides the domains' sizes."""

    ask: MixRule
    config: Any
    needs: frozenset[str]


@dataclass(kw_only=True)
class _Kept:
    """What a checkpoint holds: all that the next step depends on, and the totals so far."""

    weights: tuple[float, ...] = ()
    memory: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    cursors: dict[str, Cursor] = field(default_factory=dict[str, Cursor])
    n_rows: dict[str, int] = field(default_factory=dict[str, int])
    n_tokens: dict[str, int] = field(default_factory=dict[str, int])
    trained: list[list[float]] = field(default_factory=list[list[float]])  # (D, 2): loss and tokens since the last call
    n_calls: int = 0
    n_tokens_measured: int = 0


class DomainMix:
    """The loop's `renew` and a `loop.State`; one of each training."""

    def __init__(
        self,
        rows: ByDomain,
        rule: Rule | Mapping[str, float],
        every: int,
        config: loop.Config,
        *,
        held_out: ByDomain | None = None,
        reference_losses: "np.ndarray | None" = None,
    ) -> None:
        """Draw of `rows`, those of a domain under its name.

        Args:
            rows: at least one of each domain.
            rule: what says the weights, or the weights themselves.
            every: how many steps pass between two questions to the rule, and two measurements.
            config: of the training.
            held_out: rows of the same domains that are not learned, where the losses are to be measured.
            reference_losses: (D,), where the rule reads them.
        """
        self.names = tuple(sorted(rows))
        self._rows = {name: list(rows[name]) for name in self.names}
        self._rule = rule if isinstance(rule, Rule) else None
        self._every, self._loop = every, config
        self._held_out = {name: list(held_out[name]) for name in self.names} if held_out else {}
        self._reference = reference_losses
        self._n_steps = loop.n_steps(config, sum(map(len, rows.values())))
        self._kept = _Kept(
            weights=() if isinstance(rule, Rule) else tuple(rule[name] for name in self.names),
            cursors=dict.fromkeys(self.names, (0, 0)), n_rows=dict.fromkeys(self.names, 0),
            n_tokens=dict.fromkeys(self.names, 0), trained=_nothing(len(self.names)),
        )  # fmt: skip
        self._next = self._kept
        self._said: dict[str, float] = {}
        self._orders: dict[str, tuple[int, list[int]]] = {}  # pass and order, for the present one
        self._trained = _nothing(len(self.names))  # as in _Kept, of this step and process
        self._calls_left = 0  # of the loss, in this step and process, that are of rows and not there for company
        self.seconds = 0.0  # of measuring, in this process's CPU time; no result holds it
        if self._rule and self._n_steps <= every:
            log.warning(
                "training has %d steps and mixture_every is %d: the weights stay as they begin", self._n_steps, every,
            )  # fmt: skip

    @property
    def watches(self) -> bool:
        """Whether the rule reads the losses of what is learned, of which `watch` must be told."""
        return bool(self._rule and "trained_losses" in self._rule.needs)

    def renew(self, network: "torch.nn.Module", rows: Sequence[LearnedRow], step: int) -> list[LearnedRow]:
        """What the step learns from in place of `rows`, drawn by the weights, which are renewed before when it is time.

        Nothing of it counts before the step is taken, as of a step that fails.
        """
        self._next, self._said = copy.deepcopy(self._kept), {}
        if step % self._every == 0:
            self._renew_weights(network, step)
        chosen = self._draw(step)
        if self.watches:
            self._trained, self._calls_left = _nothing(len(self.names)), self._n_calls(chosen)
        return chosen

    def watch(self, losses: "Sequence[tuple[str, SumCount]]") -> None:
        """Add what a call of the loss says of each domain's rows; see `trainers.lm_loss.RowsLoss`.

        Not of a look without gradients, nor of a row that keeps a process in step with the others at weight 0.
        """
        if not self._calls_left or not losses[0][1].sum.requires_grad:
            return
        self._calls_left -= 1
        for name, one in losses:
            total = self._trained[self.names.index(name)]
            total[0] += float(one.sum.detach())
            total[1] += float(one.n)

    def update(self, loss: float, step: int, n_steps: int) -> Mapping[str, float]:
        """The step is taken: weights that it was drawn by, and the losses that were measured before it."""
        if self.watches:
            for total, more in zip(self._next.trained, _over_processes(self._trained), strict=True):
                total[0], total[1] = total[0] + more[0], total[1] + more[1]
        self._kept = self._next
        weights = zip(self.names, self._kept.weights, strict=True)
        return {**{f"weight/{name}": weight for name, weight in weights}, **self._said}

    def state_dict(self) -> dict[str, Any]:
        """What the next step needs."""
        return {name: copy.deepcopy(value) for name, value in vars(self._kept).items()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from `state_dict`'s."""
        self._kept = _Kept(**state)

    def figures(self) -> dict[str, Any]:
        """Of the training so far: by domain the last weight, what was drawn and how often it started again."""
        kept = self._kept
        return {
            "weights": dict(zip(self.names, kept.weights, strict=True)),
            "n_sequences": dict(kept.n_rows),
            "n_tokens": dict(kept.n_tokens),
            "restarts": {
                name: passes if drawn else max(passes - 1, 0) for name, (passes, drawn) in kept.cursors.items()
            },
            "rule_asked": kept.n_calls,
            "n_tokens_measured": kept.n_tokens_measured,
        }

    @property
    def memory(self) -> Mapping[str, Sequence[float]]:
        """What the rule remembers."""
        return self._kept.memory

    def measure(self, network: "torch.nn.Module") -> "np.ndarray":
        """(D,): the network's mean losses on the held-out rows, in nats per token."""
        from trainers.domain_losses import losses

        start = time.process_time()
        found = losses(network, self._held_out, self._loop.micro_batch_tokens, self._loop.layout)
        self.seconds += time.process_time() - start
        return found

    def _renew_weights(self, network: "torch.nn.Module", step: int) -> None:
        """Ask the rule, of what the student does now."""
        import numpy as np

        after = self._next
        student: np.ndarray | None = None
        if self._held_out:
            student = self.measure(network)
            after.n_tokens_measured += sum(
                row.example.n_completion_tokens for mine in self._held_out.values() for row in mine
            )
            self._said |= {f"student_loss/{name}": float(one) for name, one in zip(self.names, student, strict=True)}
            if self._reference is not None:
                self._said |= {
                    f"reference_loss/{name}": float(one) for name, one in zip(self.names, self._reference, strict=True)
                }
        if self._rule is None:
            return
        sums = np.array(after.trained)
        seen = Seen(
            names=self.names,
            n_tokens=np.array(
                [sum(row.example.n_completion_tokens for row in self._rows[n]) for n in self.names], float
            ),
            student_losses=student,
            reference_losses=self._reference,
            trained_losses=np.where(sums[:, 1] > 0, sums[:, 0] / np.maximum(sums[:, 1], 1), np.nan),
            step=step,
            n_steps=self._n_steps,
        )
        before = Mix(weights=after.weights, memory=after.memory) if after.n_calls else None
        mix = self._rule.ask(self._rule.config, before, seen)
        after.weights = mix.weights
        after.memory = {name: list(values) for name, values in mix.memory.items()}
        after.trained = _nothing(len(self.names))
        after.n_calls += 1

    def _draw(self, step: int) -> list[LearnedRow]:
        after = self._next
        start = random.Random(derive_seed(self._loop.seed, "domains", step)).random()
        found: list[LearnedRow] = []
        for name, n in zip(self.names, shares(after.weights, self._loop.batch_size, start), strict=True):
            for _ in range(n):
                passes, at = after.cursors[name]
                row = self._rows[name][self._order(name, passes)[at]]
                after.cursors[name] = (passes, at + 1) if at + 1 < len(self._rows[name]) else (passes + 1, 0)
                after.n_rows[name] += 1
                after.n_tokens[name] += row.example.n_completion_tokens
                found.append(row)
        return found

    def _order(self, name: str, passes: int) -> list[int]:
        if self._orders.get(name, (-1, []))[0] != passes:
            order = list(range(len(self._rows[name])))
            random.Random(derive_seed(self._loop.seed, "pass", name, passes)).shuffle(order)
            self._orders[name] = (passes, order)
        return self._orders[name][1]

    def _n_calls(self, rows: Sequence[LearnedRow]) -> int:
        """How many micro-batches of rows this process has."""
        from accelerate import PartialState

        state = PartialState()
        parts = loop.micro_batches(rows, self._loop.micro_batch_tokens, state.num_processes, self._loop.layout)
        return sum(map(bool, parts[state.process_index]))


def _nothing(n_domains: int) -> list[list[float]]:
    return [[0.0, 0.0] for _ in range(n_domains)]


def _over_processes(totals: list[list[float]]) -> list[list[float]]:
    """Their sum."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    summed: Any = reduce(torch.tensor(totals, dtype=torch.float64, device=PartialState().device), reduction="sum")
    return summed.tolist()


def shares(weights: Sequence[float], n: int, start: float) -> list[int]:
    """How many of `n` each gets: as many of the points start, start + 1, ... as lie in its stretch of [0, n).

    Args:
        weights: (D,), not negative, that sum to 1.
        n: of draws.
        start: in [0, 1).

    Returns:
        (D,), each floor or ceil of n times its weight, that sum to n.
    """
    edges = [0.0]
    for weight in weights:
        edges.append(edges[-1] + weight * n)
    edges[-1] = float(n)  # whatever the sum was rounded to
    points = [math.ceil(edge - start) for edge in edges]
    return [after - before for before, after in itertools.pairwise(points)]
