"""Each row by what it carries: constraints, a reference, or both, which must then both pass.

Source: none; this is how one run verifies a mixed dataset, each row by its family's verifier (as in "Not All Correct
Answers Are Equal", arXiv:2505.14464, section 2).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import tee
from typing import Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.contracts.records import Trace, Verdict
from datagen.verify import instruction_constraints, math_answer

NAME = "by_row"
_BY_WEIGHT = ("pass", "unparsed", "timeout", "error", "fail")  # of two verdicts the heavier is the row's


class Config(Params):
    """What the two methods take; `timeout_s` bounds one comparison by Math-Verify."""

    method: Literal["by_row"] = NAME
    timeout_s: float = Field(default=10.0, gt=0)


def by_row(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Judge each trace; one that carries nothing to be judged by is an `error`.

    Both methods read every trace, in step: what a row does not carry costs nothing to look for.
    """
    rows, for_constraints, for_answers = tee(traces, 3)
    constraints = instruction_constraints.instruction_constraints(instruction_constraints.Config(), for_constraints)
    answers = math_answer.math_answer(math_answer.Config(timeout_s=config.timeout_s), for_answers)
    for trace, constraint, answer in zip(rows, constraints, answers, strict=True):
        yield _choose(trace, constraint, answer)


def _choose(trace: Trace, constraints: Verdict, answer: Verdict) -> Verdict:
    has_constraints, has_reference = bool(trace.prompt.constraints), trace.prompt.reference is not None
    if has_constraints and has_reference:
        heavier = max(constraints, answer, key=lambda verdict: _BY_WEIGHT.index(verdict.status))
        score = min(constraints.score, answer.score)
        return replace(heavier, method=NAME, score=score, answer=answer.answer)
    if has_constraints:
        return constraints
    if has_reference:
        return answer
    detail = "nothing to judge by: the row has neither constraints nor a reference"
    return Verdict(id=trace.id, method=NAME, status="error", score=0.0, reason="no_reference", detail=detail)
