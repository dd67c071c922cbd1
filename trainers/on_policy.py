"""On-policy distillation: a share of the steps learns from what the student itself writes.

Agarwal et al. On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes. 2023. arXiv:2306.13649,
algorithm 1, whose lambda is `on_policy_share` here, taken exactly and not by chance. The prompts of a step's rows are
answered by the student as it is before the step; what it learns from the teacher is the teacher's signal at those
answers. No gradient goes through the sampling.

Three ways in which this fails, and the option that mends each: Fu et al. Revisiting On-Policy Distillation: Empirical
Failure Modes and Simple Fixes. 2026. arXiv:2603.25562 (by its abstract).
    a signal from the drawn token alone is noisy, and far off where the teacher finds it unlikely: `rollout_support_k`
        compares both models on the teacher's likeliest k tokens, each made to sum to 1 over them
    prefixes that only the student would write, where the teacher says nothing of use: `rollout_top_p` draws from the
        likeliest tokens that hold so much of the student's mass
    tokens that the two use differently, such as the end of a turn: `unlearned_tokens` are drawn and read, not learned

A rollout depends on (seed, step, row) and the weights alone, whatever the batch and however many processes there are,
but for rounding; a server rounds by who shares its batch. Lengths and entropies are in the record of each step; where
they collapse training stops.

Axes: B rows, N learned tokens, V vocabulary.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator
from pydantic.config import JsonDict

from datagen.backends.endpoint_params import CONNECTION, checked_url
from datagen.backends.transformers_models import Example
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed
from trainers.lm_rows import LearnedRow
from trainers.sharded import is_wanted

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch

_LATER: JsonDict = {"unless_default": True}
N_COLLAPSED = 3  # on-policy steps in a row before training stops
READS_ROLLOUTS = frozenset({"online", "server"})  # teachers that can say something of new rows

log = logging.getLogger(__name__)


class Config(Params):
    """Which steps learn from the student's own answers, how these are drawn, and what of them is learned.

    Attributes:
        on_policy_share: of the steps; 0 draws nothing, 1 draws in each.
        rollout_tokens: at most, in an answer.
        rollout_temperature: divides the student's logits.
        rollout_top_p: mass of the likeliest tokens that are drawn from; 1 draws from all.
        rollout_batch: answers drawn at once; no result depends on it but by rounding.
        rollout_support_k: tokens of the teacher that divergences are made of; null takes all.
        unlearned_tokens: tokens, as the tokenizer writes them, that are not learned in answers.
        rollout_url: of a vLLM server that draws in the student's place, such as http://localhost:8000/v1, and takes its
            weights before each step that draws (`server_rollouts`).
        rollout_served_as: the model's name there.
        collapse_share: training stops where entropy or length of answers stays below this share of what they were in
            the first on-policy step; 0 never stops.
    """

    on_policy_share: float = Field(default=0.0, ge=0, le=1, json_schema_extra=_LATER)
    rollout_tokens: int = Field(default=128, ge=1, json_schema_extra=_LATER)
    rollout_temperature: float = Field(default=1.0, gt=0, json_schema_extra=_LATER)
    rollout_top_p: float = Field(default=1.0, gt=0, le=1, json_schema_extra=_LATER)
    rollout_batch: int = Field(default=16, ge=1, json_schema_extra=_LATER)
    rollout_support_k: int | None = Field(default=None, ge=2, json_schema_extra=_LATER)
    unlearned_tokens: tuple[str, ...] = Field(default=(), json_schema_extra=_LATER)
    rollout_url: str | None = Field(default=None, json_schema_extra=_LATER | CONNECTION)
    rollout_served_as: str | None = Field(default=None, json_schema_extra=_LATER)
    collapse_share: float = Field(default=0.1, ge=0, lt=1, json_schema_extra=_LATER)

    @field_validator("rollout_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return None if value is None else checked_url(value)

    @model_validator(mode="after")
    def _names_the_model(self) -> "Config":
        if (self.rollout_url is None) != (self.rollout_served_as is None):
            raise ValueError("rollout_url and rollout_served_as, the model's name on that server, go together")
        return self


def is_on_policy(step: int, share: float) -> bool:
    """Whether a step, from 0, is one of the share: evenly spread, after n steps floor(n * share) of them."""
    return math.floor((step + 1) * share + 1e-9) > math.floor(step * share + 1e-9)


def check(config: Config, teacher_kinds: Sequence[str], objectives: Sequence[str]) -> None:
    """Fail where the options cannot go with a teacher, each of a mixture's, or an objective.

    Raises:
        ParamsError: with the remedy.
    """
    if not config.on_policy_share:
        if given := [name for name, value in config if value != type(config).model_fields[name].default]:
            raise ParamsError(
                f"{given[0]}: of the student's own answers alone; set on_policy_share too, or leave it out"
            )
        return
    if is_wanted():
        raise ParamsError("on_policy_share: a student whose weights are cut writes no answers; unset $DATASTILL_SHARD")
    if "supervised" in objectives:
        raise ParamsError("on_policy_share: supervised would learn the student's own answers; take a divergence alone")
    if silent := [kind for kind in teacher_kinds if kind not in READS_ROLLOUTS]:
        raise ParamsError(
            f"on_policy_share: a teacher of the kind {silent[0]} says nothing of new answers; take online or server"
        )


class Rollouts:
    """Answers in place of a step's rows, their figures, and a halt where they collapse. A `loop.State`."""

    def __init__(
        self, config: Config, tokenizer: Any, ends: frozenset[int], context: int, seed: int, folder: Path
    ) -> None:
        """Draw for a student with `tokenizer`, whose turns end with one of `ends`, within `context` positions.

        A server reads its weights in `folder`.

        Raises:
            ParamsError: `unlearned_tokens` names what is no token.
        """
        self._config, self._ends, self._context, self._seed = config, ends, context, seed
        self._folder = folder
        self._first: dict[str, float] | None = None
        self._n_collapsed = 0
        self._latest: dict[str, float] = {}
        self.unlearned = token_ids(tokenizer, config.unlearned_tokens)

    def renew(self, network: "torch.nn.Module", rows: Sequence[LearnedRow], step: int) -> Sequence[LearnedRow]:
        """The rows, or in an on-policy step the student's answers to their prompts, the same in each process."""
        from trainers.sampling import sample
        from trainers.server_rollouts import sample_on_server

        self._latest = {}
        if not is_on_policy(step, self._config.on_policy_share):
            return rows
        prompts = [row.example.tokens[: row.example.n_prompt_tokens] for row in rows]
        seeds = [derive_seed(self._seed, "rollout", step, row.id) for row in rows]
        drawn_by = (self._config, self._ends, self._context)
        if self._config.rollout_url:
            found = sample_on_server(network, prompts, seeds, *drawn_by, self._folder)
        else:
            found = sample(network, prompts, seeds, *drawn_by)
        answers = [answer for answer, _ in found]
        n_tokens = sum(map(len, answers))
        learned = sum(token not in self.unlearned for answer in answers for token in answer)
        if not learned:
            raise DataError(f"step {step + 1}: the student's answers hold nothing to learn; see unlearned_tokens")
        self._latest = {
            "rollout_length": n_tokens / len(rows),
            "rollout_entropy": sum(entropy for _, entropy in found) / n_tokens,
            "rollout_ended": sum(answer[-1] in self._ends for answer in answers) / len(rows),
        }
        return [
            replace(row, example=Example([*prompt, *answer], len(prompt)), drawn=True)
            for row, prompt, answer in zip(rows, prompts, answers, strict=True)
        ]

    def update(self, loss: float, step: int, n_steps: int) -> Mapping[str, float]:
        """Figures of the step's answers: mean length in tokens, mean entropy in nats, share that ended by itself.

        Raises:
            DataError: they have collapsed.
        """
        if not self._latest:
            return {}
        if self._first is None:
            self._first = dict(self._latest)
        names = ("rollout_length", "rollout_entropy")
        fallen = [name for name in names if self._latest[name] < self._config.collapse_share * self._first[name]]
        self._n_collapsed = self._n_collapsed + 1 if fallen else 0
        if self._n_collapsed == N_COLLAPSED:
            name = fallen[0]
            raise DataError(
                f"step {step}: the student's answers have collapsed: {name} was {self._first[name]:.3g} and is "
                f"{self._latest[name]:.3g} for {N_COLLAPSED} on-policy steps; lower learning_rate or on_policy_share, "
                "set rollout_support_k or rollout_top_p, or collapse_share=0 to go on"
            )
        return dict(self._latest)

    def state_dict(self) -> dict[str, Any]:
        """What the next step needs."""
        return {"first": self._first, "n_collapsed": self._n_collapsed}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from `state_dict`'s."""
        self._first, self._n_collapsed = state["first"], state["n_collapsed"]


def token_ids(tokenizer: Any, tokens: Sequence[str]) -> frozenset[int]:
    """Ids of tokens.

    Raises:
        ParamsError: one is no token of the tokenizer.
    """
    vocabulary: Mapping[str, int] = tokenizer.get_vocab() if tokens else {}
    if unknown := [token for token in tokens if token not in vocabulary]:
        raise ParamsError(f"unlearned_tokens: {unknown[0]!r} is no token of the student's; name it as it is in there")
    return frozenset(vocabulary[token] for token in tokens)
