"""Rows that a language model learns: traces in its chat template, texts as they are, and what of both cannot be used.

A text that is longer than a sequence may be is cut into pieces `ID/0`, `ID/1` and so on, each of which starts with the
last token of the one before, so that every token of the text but its first is learned, once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from datagen.backends.transformers_models import Example, TemplateError, encode
from datagen.contracts.records import Document, Prompt, Rejection, Trace

LearnedTokens = Literal["completion", "all"]


@dataclass(frozen=True, slots=True)
class LearnedRow:
    """A trace and the tokens that the student reads of it; its length is its cost.

    A drawn one has an answer of the student's own in place of the trace's. Of a text the trace has no prompt, and its
    completion is all of the text, also where the row is a piece; `domain` is the text's.
    """

    id: str
    example: Example
    trace: Trace
    drawn: bool = False
    domain: str = ""

    def __len__(self) -> int:
        """Tokens, the prompt's included."""
        return len(self.example)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a row may be.

    Attributes:
        max_tokens: of a sequence, prompt included: a longer one is dropped, never cut, but for texts.
        context: positions that the models have; none of them goes beyond.
        max_rows_per_prompt: distinct completions of a prompt, the first ones.
        learned_tokens: `completion` of a trace, or `all` after the first: every turn's, with what the template puts
            around them.
    """

    max_tokens: int
    context: int
    max_rows_per_prompt: int
    learned_tokens: LearnedTokens = "completion"


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
            if bounds.learned_tokens == "all":
                example = replace(example, n_prompt_tokens=1)
            chosen.append(LearnedRow(row.id, example, row))
    return chosen, rejections


def select_texts(
    rows: Iterable[Document | Rejection], bounds: Bounds, tokenizer: Any, *, stage: str
) -> tuple[list[LearnedRow], list[Rejection]]:
    """What to train on of texts, in their order, and what not, with the reason.

    Args:
        rows: of the data.
        bounds: of a row; a text of more tokens is cut into pieces of so many.
        tokenizer: of the student; a text has the tokens that it gives to a text alone, with its own mark of a start
            where it has one. Markup of special tokens within a text becomes those tokens.
        stage: that drops.

    Returns:
        Rows whose every token after the first is learned, and rejections whose reasons are `empty_text`, a text of less
        than two tokens, and `duplicate_id`, beside those that come in.
    """
    chosen: list[LearnedRow] = []
    rejections: list[Rejection] = []
    taken: set[str] = set()
    for row in rows:
        if isinstance(row, Rejection):
            rejections.append(row)
            continue
        parts = pieces(tokenizer(row.text, verbose=False)["input_ids"], min(bounds.max_tokens, bounds.context))
        ids = [row.id] if len(parts) == 1 else [f"{row.id}/{i}" for i in range(len(parts))]
        if len(parts[0]) < 2:
            rejections.append(Rejection(id=row.id, stage=stage, reason="empty_text", detail="less than two tokens"))
        elif not taken.isdisjoint(ids):
            detail = "a piece of another text has the id of this one, or of one of its pieces"
            rejections.append(Rejection(id=row.id, stage=stage, reason="duplicate_id", detail=detail))
        else:
            taken.update(ids)
            trace = Trace(id=row.id, prompt=Prompt(id=row.id, messages=[]), completion=row.text)
            chosen += [
                LearnedRow(id, Example(list(part), 1), trace, domain=row.domain)
                for id, part in zip(ids, parts, strict=True)
            ]
    return chosen, rejections


def pieces(tokens: Sequence[int], size: int) -> list[Sequence[int]]:
    """Runs of at most `size` tokens, 2 or more, each from the last token of the one before."""
    return [tokens[start : start + size] for start in range(0, max(len(tokens) - 1, 1), size - 1)]
