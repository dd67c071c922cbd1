"""Rows that a language model learns: traces in its chat template, and which of them cannot be used, with the reason."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from datagen.backends.transformers_models import Example, TemplateError, encode
from datagen.contracts.records import Rejection, Trace


@dataclass(frozen=True, slots=True)
class LearnedRow:
    """A trace and the tokens that the student reads of it; its length is its cost.

    A drawn one has an answer of the student's own in place of the trace's.
    """

    id: str
    example: Example
    trace: Trace
    drawn: bool = False

    def __len__(self) -> int:
        """Tokens, the prompt's included."""
        return len(self.example)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a row may be.

    Attributes:
        max_tokens: of a sequence, prompt included: a longer one is dropped, never cut.
        context: positions that the models have; none of them goes beyond.
        max_rows_per_prompt: distinct completions of a prompt, the first ones.
    """

    max_tokens: int
    context: int
    max_rows_per_prompt: int


def select(
    rows: Iterable[Trace | Rejection], bounds: Bounds, tokenizer: Any, ends: frozenset[int], *, stage: str
) -> tuple[list[LearnedRow], list[Rejection]]:
    """What to train on, in the order of the rows, and what not, with the reason.

    Args:
        rows: of the data.
        bounds: of a row.
        tokenizer: of the student, with a chat template; transformers types its answers too loosely to use.
        ends: tokens that end a turn.
        stage: that drops.

    Returns:
        Rows, and rejections whose reasons are `chat_template`, `empty_completion`, `too_long`, `equal_completion` and
        `over_cap`, beside those that come in.
    """
    chosen: list[LearnedRow] = []
    rejections: list[Rejection] = []
    completions: defaultdict[str, set[tuple[str | None, str]]] = defaultdict(set)

    def reject(trace: Trace, reason: str, detail: str) -> None:
        rejections.append(Rejection(id=trace.id, stage=stage, reason=reason, detail=detail))

    for row in rows:
        if isinstance(row, Rejection):
            rejections.append(row)
            continue
        kept, completion = completions[row.prompt.id], (row.reasoning, row.completion)
        if not row.completion.strip():
            reject(row, "empty_completion", "nothing to learn")
            continue
        try:
            example = encode(row, tokenizer, ends)
        except TemplateError as error:
            reject(row, "chat_template", str(error))
            continue
        if not example.n_prompt_tokens or not example.n_completion_tokens:
            reject(row, "empty_completion", "the chat template leaves no token before the answer, or none of it")
        elif len(example) > bounds.context:
            reject(row, "too_long", f"{len(example)} tokens, the model's context is {bounds.context}")
        elif len(example) > bounds.max_tokens:
            reject(row, "too_long", f"{len(example)} tokens, max_tokens is {bounds.max_tokens}")
        elif completion in kept:
            reject(row, "equal_completion", "an earlier trace of the prompt says the same")
        elif len(kept) == bounds.max_rows_per_prompt:
            reject(row, "over_cap", f"max_rows_per_prompt is {bounds.max_rows_per_prompt}")
        else:
            kept.add(completion)
            chosen.append(LearnedRow(row.id, example, row))
    return chosen, rejections
