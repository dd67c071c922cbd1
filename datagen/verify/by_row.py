"""Each row by what it carries: constraints, and tests of code or else a reference; where it has both, both must pass.

A row with tests is judged by them; its reference is then a solution that somebody wrote, and left alone.

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
from datagen.verify import code_execution, instruction_constraints, math_answer

NAME = "by_row"
ROW_BY_ROW = True
_BY_WEIGHT = ("pass", "unparsed", "timeout", "error", "fail")  # of two verdicts the heavier is the row's


class Config(Params):
    """What the methods take; `timeout_s` bounds one comparison by Math-Verify, and one test of code."""

    method: Literal["by_row"] = NAME
    timeout_s: float = Field(default=10.0, gt=0)


def by_row(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Judge each trace; one that carries nothing to be judged by is an `error`.

    Every method reads every trace, in step: what a row does not carry costs nothing to look for.
    """
    rows, for_constraints, for_answers, for_code = tee(traces, 4)
    constraints = instruction_constraints.instruction_constraints(instruction_constraints.Config(), for_constraints)
    answers = math_answer.math_answer(
        math_answer.Config(timeout_s=config.timeout_s), map(_without_solution, for_answers)
    )
    code = code_execution.code_execution(code_execution.Config(timeout_s=config.timeout_s), for_code)
    for trace, *verdicts in zip(rows, constraints, answers, code, strict=True):
        yield _choose(trace, *verdicts)


def _without_solution(trace: Trace) -> Trace:
    return replace(trace, prompt=replace(trace.prompt, reference=None)) if trace.prompt.tests else trace


def _choose(trace: Trace, constraints: Verdict, answer: Verdict, code: Verdict) -> Verdict:
    solution = code if trace.prompt.tests is not None else answer if trace.prompt.reference is not None else None
    if trace.prompt.constraints and solution:
        heavier = max(constraints, solution, key=lambda verdict: _BY_WEIGHT.index(verdict.status))
        score = min(constraints.score, solution.score)
        return replace(heavier, method=NAME, score=score, answer=solution.answer)
    if trace.prompt.constraints:
        return constraints
    if solution:
        return solution
    detail = "nothing to judge by: the row has neither constraints nor tests nor a reference"
    return Verdict(id=trace.id, method=NAME, status="error", score=0.0, reason="no_reference", detail=detail)
