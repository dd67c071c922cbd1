"""Reasoning and answer apart: by the server's own field where it has one, else by tags in the text.

The ledger keeps what the teacher said as it came; it is split whenever rows are made of it, so other tags or another
rule ask nothing again. The tags are those of DeepSeek-R1 (arXiv:2501.12948, table 1). That a trace needs both parts is
the filter of DeepDistill (arXiv:2504.17565).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from datagen.backends.base import Completion, Failure, Outcome, Request
from datagen.contracts.params import Params
from datagen.traces import Generate


class ReasoningTags(Params):
    """`reasoning_tags` are the two that enclose the reasoning in a text; with `[]` none do."""

    reasoning_tags: tuple[str, ...] = Field(default=("<think>", "</think>"))

    @field_validator("reasoning_tags")
    @classmethod
    def _check_tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and (len(value) != 2 or not all(value)):
            raise ValueError("expected the two tags around the reasoning, or none")
        return value


class ReasoningParams(ReasoningTags):
    """What becomes of an answer without reasoning, or of reasoning without an answer.

    `without_reasoning` and `without_answer` say what becomes of an answer that lacks one of the two: a row with that
    part empty, or a rejection (`no_reasoning`, `reasoning_only`). A tool call is an answer.
    """

    without_reasoning: Literal["keep", "reject"] = "keep"
    without_answer: Literal["keep", "reject"] = "keep"


def split_each(generate: Generate, params: ReasoningParams) -> Generate:
    """`generate` with every answer split."""

    def generate_split(requests: Iterable[Request]) -> Iterator[Outcome]:
        for outcome in generate(requests):
            if isinstance(outcome.answer, Completion):
                answer = split(outcome.answer, params)
                outcome = outcome if answer is outcome.answer else replace(outcome, answer=answer)
            yield outcome

    return generate_split


def split(answer: Completion, params: ReasoningParams) -> Completion | Failure:
    """The answer with its reasoning apart, or why it is not taken."""
    if params.reasoning_tags and not answer.reasoning:
        start, end = params.reasoning_tags
        reasoning, text = split_text(answer.text, start, end)
        if reasoning or text != answer.text:
            answer = replace(answer, reasoning=reasoning or None, text=text)
    has_answer = bool(answer.text.strip() or answer.tool_calls)
    ending = f"finish_reason is {answer.finish_reason}"
    if not has_answer and not answer.reasoning:
        return Failure(reason="empty_answer", detail=f"neither reasoning nor answer; {ending}")
    if not has_answer and params.without_answer == "reject":
        n_chars = len(answer.reasoning or "")
        return Failure(reason="reasoning_only", detail=f"{n_chars} characters of reasoning and no answer; {ending}")
    if not answer.reasoning and params.without_reasoning == "reject":
        return Failure(reason="no_reasoning", detail=f"an answer of {len(answer.text)} characters without reasoning")
    return answer


def split_text(text: str, start: str, end: str) -> tuple[str, str]:
    """(reasoning, answer) of a text, without the white space where they meet.

    Reasoning opens the text, or its start tag stood in the chat template and only the end tag is in the text. A tag
    that is never closed makes all of it reasoning: the answer was cut before it began. A start tag further on is a part
    of the answer.
    """
    body = text.lstrip()
    opened = body.startswith(start)
    reasoning, closed, answer = body.removeprefix(start).partition(end)
    if opened and not closed:
        return reasoning.strip(), ""
    if closed and (opened or start not in reasoning):
        return reasoning.strip(), answer.lstrip()
    return "", text
