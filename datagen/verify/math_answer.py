"""The final answer against the reference, both read and compared as `answers` says; `detail` names the rule.

Exact arithmetic decides between numbers, Math-Verify between everything else.
Source: Math-Verify (https://github.com/huggingface/Math-Verify); answer formats of arXiv:2110.14168, arXiv:2103.03874.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

from pydantic import Field

from datagen.contracts.cluster import n_workers
from datagen.contracts.params import Params
from datagen.contracts.records import Status, Trace, Verdict
from datagen.verify.answers import MAX_ANSWER_CHARS, Answer, compare, compare_plain, find_answer, find_reference
from datagen.verify.pool import Check, Result, in_order

NAME = "math_answer"
ROW_BY_ROW = True


class Config(Params):
    """`timeout_s` bounds one comparison by Math-Verify."""

    method: Literal["math_answer"] = NAME
    timeout_s: float = Field(default=10.0, gt=0)


def math_answer(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Judge each trace by its prompt's reference; a trace without one is an `error`, without an answer `unparsed`."""
    return in_order((_judge(trace, config.timeout_s) for trace in traces), n_workers(), ("math_verify",))


def _judge(trace: Trace, timeout_s: float) -> Verdict | Check[Verdict]:
    if trace.prompt.reference is None:
        detail = "no reference: the row has neither `reference` nor `answer` to compare with"
        return Verdict(id=trace.id, method=NAME, status="error", score=0.0, reason="no_reference", detail=detail)
    answer = find_answer(trace.completion)
    if answer is None:
        return _verdict(trace.id, None, "unparsed", "no_answer", "no answer found")
    if len(answer.text) > MAX_ANSWER_CHARS:
        return _verdict(trace.id, None, "unparsed", "no_answer", f"{answer.rule}: {len(answer.text)} characters")
    reference = find_reference(trace.prompt.reference)
    found = compare_plain(reference, answer.text)
    if found:
        return _conclude(trace.id, answer, reference, Result(status="done", value=found))
    return Check(
        function=compare,
        arguments=(reference, answer.text),
        timeout_s=timeout_s,
        conclude=partial(_conclude, trace.id, answer, reference),
    )


def _conclude(id: str, answer: Answer, reference: str, result: Result) -> Verdict:
    found = f"{answer.rule}: {answer.text}"
    if result.status != "done":
        return _verdict(id, answer, result.status, result.status, f"{found}: {result.detail}")
    match result.value:
        case "equal":
            return _verdict(id, answer, "pass", None, found)
        case "different":
            return _verdict(id, answer, "fail", "wrong_answer", f"{found}, not {reference}")
        case _:
            return _verdict(id, answer, "unparsed", "unparsed", f"{found}, beside {reference}: {result.value}")


def _verdict(id: str, answer: Answer | None, status: Status, reason: str | None, detail: str) -> Verdict:
    return Verdict(
        id=id,
        method=NAME,
        status=status,
        score=float(status == "pass"),
        answer=answer.text if answer else None,
        reason=reason,
        detail=detail,
    )
