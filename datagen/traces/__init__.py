"""How teachers are sampled: one file a method.

n_samples  a fixed number of attempts a prompt
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
    """One request made for a prompt and what became of it; `sample_index` counts the prompt's attempts from 0."""

    prompt: Prompt
    sample_index: int
    outcome: Outcome


class TraceMethod(Protocol):
    """The function that a method module is named after."""

    def __call__(
        self, config: Any, sampling: Sampling, prompts: Iterable[Prompt], generate: Generate
    ) -> Iterator[Attempt]:
        """Every attempt at every prompt, by prompt and then by sample, holding a bounded number of prompts."""
        ...
