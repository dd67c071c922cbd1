"""How teachers are sampled: one file a method.

best_of_n       a fixed number of attempts a prompt, the best by a scorer marked
n_samples       a fixed number of attempts a prompt
until_verified  attempts at a prompt until one passes a verifier
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from datagen.backends.base import Outcome, Request, Sampling
from datagen.contracts.records import Prompt

Generate = Callable[[Iterable[Request]], Iterator[Outcome]]
"""A backend's `generate`: lazy, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request made for a prompt and what became of it.

    Attributes:
        sample_index: counts the prompt's attempts from 0.
        score: what the method's scorer gave the answer, where the method has one.
        verified: whether the score reached the method's threshold, where it has one.
        best: whether it is the best of the prompt's attempts, where the method chooses one.
    """

    prompt: Prompt
    sample_index: int
    outcome: Outcome
    score: float | None = None
    verified: bool | None = None
    best: bool | None = None


class TraceMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(
        self, config: Any, sampling: Sampling, prompts: Iterable[Prompt], generate: Generate
    ) -> Iterator[Attempt]:
        """Every attempt at every prompt, by prompt and then by sample, holding a bounded number of prompts."""
        ...
