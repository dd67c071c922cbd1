"""Code by its tests, in a sandbox: assert statements, and programs that read stdin and write stdout.

The score is the share of tests passed, of at most 10, as in "Not All Correct Answers Are Equal" (arXiv:2505.14464,
section 2); a row passes if all do. MBPP's rows (Austin et al. 2021, arXiv:2108.07732) are judged as they are.

The code is what stands in a fenced block of the completion: of those marked as Python, else of those without a mark,
the last that defines a name which the asserts use, else the last. A completion without a fence is code as a whole; one
that is then no Python is `unparsed`. `detail` says which it was.

A pass is declared where the completion's code never runs. Asserts are executed in a second sandbox, by an interpreter
that only gets values from the completion's; outputs of programs are compared here. So none of these is a pass: an exit
with code 0 before the asserts, patched builtins, an `assert` or a comparison made to agree, a class equal to
everything, an exit handler, a file or a message that claims a result. What a completion can do is to give the right
value; it is told the arguments of a call, never what is expected. Where that leaves a limit it is on the strict side:

    - builtins in tests are Python's, a completion's own `sorted` or `sum` does not replace them; a test that uses
      nothing of the completion is an error (`untested`);
    - arguments and results are copies, what a call does to a list, dict, set or bytearray that it was given is copied
      back; an object of a class of the completion's stays with it and is equal to itself alone;
    - a named tuple comes as a tuple, a subclass of a builtin type as what it holds.

A name that the tests neither define nor import is the completion's, as in a file that holds both: tests that trust it
with their own comparison (`assert close(f(1), 2)`, where `close` is the completion's) trust it here too.

Limits of a test: `timeout_s` of CPU time, 4 times that by the clock, `memory_mb`, and those of `_sandbox.py`. Where
there is no sandbox, nothing is run and the stage ends with exit code 2.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from datagen.contracts.cluster import n_workers
from datagen.contracts.code_tests import Case, CodeTests
from datagen.contracts.params import Params
from datagen.contracts.records import Status, Trace, Verdict
from datagen.verify._sandbox import check_sandbox
from datagen.verify._test_runs import WALL_S_PER_CPU_S, Limits, Outcome, Statement, run_asserts, run_case, statements_of
from datagen.verify.pool import Check, Result, in_order

NAME = "code_execution"
ROW_BY_ROW = True
MAX_TESTS = 10
_MAX_CODE_CHARS = 200_000  # what is longer is no solution
_MAX_DETAIL = 1000  # characters
_NO_FINDING = frozenset({"sandbox_failed", "unsupported", "untested"})  # the verifier or the tests fell short
_FENCE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<mark>[\w+.#-]*)[^\n]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)|\Z)", re.M | re.S
)
_PYTHON = frozenset({"python", "python3", "py", "py3"})


class Config(Params):
    """The language, and what one test may use."""

    method: Literal["code_execution"] = NAME
    language: Literal["python"] = "python"
    timeout_s: float = Field(default=5.0, gt=0)
    memory_mb: int = Field(default=1024, ge=128)


@dataclass(frozen=True, slots=True)
class Code:
    """What was taken from a completion as its code, and by which rule."""

    text: str
    rule: str
    is_fenced: bool


def code_execution(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Judge each trace by its prompt's tests; a trace without tests is an `error`, without code `unparsed`.

    Raises:
        MissingError: there is a row to judge, and no sandbox to run its code in.
    """
    return in_order(
        (_judge(trace, config) for trace in traces),
        n_workers(),
        ("datagen.verify.code_execution",),
        may_start_processes=True,
    )


def find_code(completion: str, names: Iterable[str] = ()) -> Code | None:
    """The code of a completion, None where there is none; `names` are those that its tests use."""
    blocks = [(match["mark"].lower(), match["code"]) for match in _FENCE.finditer(completion)]
    marked = [code for mark, code in blocks if mark in _PYTHON] or [code for mark, code in blocks if not mark]
    marked = [code for code in marked if code.strip()]
    if not marked:
        is_code = not blocks and completion.strip()
        return Code(completion, "the whole completion", False) if is_code else None
    defines = re.compile(rf"^(?:(?:async )?def|class) (?:{'|'.join(map(re.escape, names))})\b", re.MULTILINE)
    defining = [code for code in marked if defines.search(code)] if names else []
    code = (defining or marked)[-1]
    number = len(marked) - marked[::-1].index(code)
    return Code(code, f"fenced block {number} of {len(marked)}", True)


def run_tests(
    code: str, setup: str, statements: Sequence[Statement], cases: Sequence[Case], limits: Limits
) -> list[Outcome]:
    """Outcomes of a row's asserts and then of its cases; to be called in a process that can be killed."""
    outcomes = run_asserts(code, setup, statements, limits) if statements else []
    return outcomes + [run_case(code, case, limits) for case in cases]


def _judge(trace: Trace, config: Config) -> Verdict | Check[Verdict]:
    if trace.prompt.tests is None:
        return _no_finding(trace.id, "error", "no_tests", "no tests: the row has neither `tests` nor `cases`")
    try:
        tests = CodeTests.parse(trace.prompt.tests)
        statements = statements_of(tests.asserts, tests.setup)
    except ValueError as error:
        return _no_finding(trace.id, "error", "bad_tests", str(error))
    labels = [one.code for one in statements if one.test is not None]
    n_tests = len(labels) + len(tests.cases)
    if not n_tests:
        return _no_finding(trace.id, "error", "no_tests", "no tests: no text asserts or calls anything")
    statements = _first(statements, MAX_TESTS)
    cases = tests.cases[: MAX_TESTS - min(MAX_TESTS, len(labels))]
    labels = [*labels, *(f"case {number}" for number in range(1, len(cases) + 1))][:MAX_TESTS]
    code = find_code(trace.completion, {name for one in statements for name in one.names})
    if code is None or len(code.text) > _MAX_CODE_CHARS:
        found = f"{code.rule}: {len(code.text)} characters" if code else "no code found"
        return _no_finding(trace.id, "unparsed", "no_code", found)
    check_sandbox()
    limits = Limits(cpu_s=config.timeout_s, memory_bytes=config.memory_mb * 2**20)
    return Check(
        function=run_tests,
        arguments=(code.text, tests.setup, statements, cases, limits),
        timeout_s=60 + 2 * WALL_S_PER_CPU_S * config.timeout_s * (len(labels) + 1),  # never met: each test has its own
        conclude=partial(_conclude, trace.id, code, labels, n_tests),
    )


def _first(statements: Sequence[Statement], n_tests: int) -> list[Statement]:
    """The statements up to the last of the first `n_tests` tests; what stands behind it is for nothing."""
    wanted = [i for i, one in enumerate(statements) if one.test is not None and one.test < n_tests]
    return list(statements[: wanted[-1] + 1]) if wanted else []


def _conclude(id: str, code: Code, labels: Sequence[str], n_tests: int, result: Result) -> Verdict:
    if result.status != "done":
        return _no_finding(id, result.status, result.status, result.detail)
    outcomes: list[Outcome] = result.value
    if not code.is_fenced and outcomes[0].code == "syntax_error":
        return _no_finding(id, "unparsed", "no_code", f"{code.rule} is no Python: {outcomes[0].detail}")
    codes = Counter(one.code for one in outcomes)
    wrong = [one.code for one in outcomes if one.code not in {"pass", *_NO_FINDING}]
    not_judged = [one.code for one in outcomes if one.code in _NO_FINDING]
    status: Status = "pass"
    if set(wrong) - {"timeout"}:
        status = "fail"
    elif not_judged:
        status = "error"
    elif wrong:
        status = "fail" if codes["pass"] else "timeout"
    reason = next(iter(not_judged if status == "error" else wrong), None)
    more = f", the first {len(outcomes)} of {n_tests}" if n_tests > len(outcomes) else ""
    told = [
        f"; test {number} ({_short(label)}): {one.code}{': ' * bool(one.detail)}{one.detail}"
        for number, (label, one) in enumerate(zip(labels, outcomes, strict=True), start=1)
        if one.code != "pass"
    ]
    detail = f"{code.rule}: {codes['pass']} of {len(outcomes)} tests passed{more}{''.join(told)}"
    return Verdict(
        id=id,
        method=NAME,
        status=status,
        score=codes["pass"] / len(outcomes) if status in ("pass", "fail") else 0.0,
        answer=code.text,
        reason=reason,
        detail=re.sub(r"0x[0-9a-f]{6,}", "0x", detail)[:_MAX_DETAIL],  # no addresses
    )


def _short(label: str) -> str:
    label = " ".join(label.split())
    return label if len(label) <= 80 else f"{label[:77]}..."


def _no_finding(id: str, status: Status, reason: str, detail: str) -> Verdict:
    return Verdict(id=id, method=NAME, status=status, score=0.0, reason=reason, detail=detail)
