"""Runs a completion's tests in sandboxes and says how each ended.

Asserts share a pair of sandboxes: one runs the completion and answers calls, the other the tests (`_in_sandbox.py`
tells what passes between them). Where a test ends either of them, by a crash, an exit or its time, the next test gets a
new pair, so that each is judged for itself. A case of stdin and stdout has a sandbox of its own, and its output is
compared here. Nothing that runs beside the completion's code knows what is expected of it.
"""

import ast
import builtins
import io
import math
import os
import re
import selectors
import signal
import socket
import subprocess
import symtable
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import IO

from datagen.contracts.code_tests import Case
from datagen.verify import _sandbox, _wire

WALL_S_PER_CPU_S = 4  # a test that waits instead of working is ended by the clock
_START_S = 20.0  # that two sandboxes may take to start on a busy machine
_MAX_OUTPUT_BYTES = 8 * 2**20
_MAX_ERROR_BYTES = 64 * 2**10
_SHOWN = 120  # characters of an output
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one test may use: seconds of CPU time, and bytes of address space."""

    cpu_s: float
    memory_bytes: int

    @property
    def wall_s(self) -> float:
        """Seconds by the clock."""
        return WALL_S_PER_CPU_S * self.cpu_s

    def payload(self, n_tests: int) -> dict[str, float]:
        """As the sandbox takes it; the kernel ends a process that ignores the clock of its test at the sum of all."""
        total = math.ceil(self.cpu_s * (n_tests + 1)) + 1
        return {"cpu_s": self.cpu_s, "total_cpu_s": total, "memory_bytes": self.memory_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a test ended: `pass`, or the code of what happened, and a detail."""

    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A piece of the tests' code.

    Attributes:
        code: its text.
        test: the number of the test that it is, None for what stands between the tests, such as an import.
        names: what it reads and may be the completion's; never a builtin.
        modules: of these, what it only uses as a module of the standard library, `math` in `math.isclose(a, b)`.
        binds: what it defines.
    """

    code: str
    test: int | None
    names: list[str]
    modules: list[str]
    binds: list[str]


def statements_of(asserts: Sequence[str] | str, setup: str) -> list[Statement]:
    """The tests as statements: each text of a list is a test, as is each top-level statement of one text that asserts.

    Of one text, a call that stands alone is a test too; classes of `setup` are left out, since they live with the
    completion, which makes and gets their instances.

    Raises:
        ValueError: a text is no Python; the message says which.
    """
    pieces = [
        (ast.unparse(node), False)
        for node in _parse(setup, "the setup").body
        if not isinstance(node, ast.ClassDef)
    ]  # fmt: skip
    if isinstance(asserts, str):
        pieces += [(ast.unparse(node), _is_test(node)) for node in _parse(asserts, "the tests").body]
    else:
        pieces += [(_dedent(text, f"test {number}"), True) for number, text in enumerate(asserts, start=1)]
    statements: list[Statement] = []
    n_tests = 0
    for code, is_test in pieces:
        names, binds = _names(code)
        modules = sorted(_modules(code) & set(names))
        test = n_tests if is_test else None
        statements.append(Statement(code=code, test=test, names=names, modules=modules, binds=binds))
        n_tests += is_test
    return statements


def _parse(text: str, what: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{what}: no Python ({error})") from None


def _dedent(text: str, what: str) -> str:
    text = textwrap.dedent(text).strip()
    _parse(text, what)
    return text


def _is_test(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    return any(isinstance(one, ast.Assert) for one in ast.walk(node))


def _names(code: str) -> tuple[list[str], list[str]]:
    """What the code reads from its globals, builtins left out, and what it binds there."""
    top = symtable.symtable(code, "tests.py", "exec")
    reads = {one.get_name() for one in top.get_symbols() if one.is_referenced()}
    binds = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    tables = [*top.get_children()]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        reads |= {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
        binds |= {one.get_name() for one in table.get_symbols() if one.is_declared_global() and one.is_assigned()}
    return sorted(reads - _BUILTINS), sorted(binds)


def _modules(code: str) -> set[str]:
    nodes = [*ast.walk(ast.parse(code))]
    bases = [one.value for one in nodes if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)]
    others = {one.id for one in nodes if isinstance(one, ast.Name) and one not in bases}
    return {one.id for one in bases if isinstance(one, ast.Name)} & sys.stdlib_module_names - others


def run_asserts(code: str, setup: str, statements: Sequence[Statement], limits: Limits) -> list[Outcome]:
    """The outcome of each test of a completion's code, in order."""
    n_tests = sum(one.test is not None for one in statements)
    outcomes: list[Outcome] = []
    while len(outcomes) < n_tests:
        found, loaded = _run_pair(code, setup, statements, len(outcomes), n_tests, limits)
        outcomes += found if loaded else found * (n_tests - len(outcomes))
    return outcomes


def _run_pair(
    code: str, setup: str, statements: Sequence[Statement], first: int, n_tests: int, limits: Limits
) -> tuple[list[Outcome], bool]:
    """Outcomes from test `first` on, at least one, until the last test or one that ended a sandbox.

    Whether the completion was loaded; where not, there is one outcome and it is every test's.
    """
    shared = limits.payload(n_tests)
    tests = [asdict(one) for one in statements]
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        solution = _sandbox.start("solve", shared | {"code": code, "setup": setup}, theirs.fileno())
        with _ended(solution):
            judge = _sandbox.start(
                "judge", shared | {"statements": tests, "first": first}, ours.fileno(),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            ours.close()
            theirs.close()
            with _ended(judge):
                return _read_outcomes(solution, judge, n_tests - first, limits)


def _read_outcomes(
    solution: "subprocess.Popen[bytes]", judge: "subprocess.Popen[bytes]", n_tests: int, limits: Limits
) -> tuple[list[Outcome], bool]:
    assert judge.stdout and judge.stderr
    stage, outcomes = "starting", list[Outcome]()
    for report in _reports(judge.stdout, _START_S + limits.wall_s, limits.wall_s):
        if report is None:
            outcomes.append(Outcome(code="timeout", detail=f"waited {limits.wall_s:g} s for something"))
            return outcomes, stage == "loaded"
        code, detail = report
        if code in ("started", "loaded"):
            stage = code
            continue
        if code == "ended":
            if stage == "starting":
                outcomes.append(Outcome(code="sandbox_failed", detail="the completion's sandbox did not start"))
            else:
                outcomes.append(_how_it_ended(solution, detail, limits))
            return outcomes, stage == "loaded"
        outcomes.append(Outcome(code=code, detail=detail))
        if stage != "loaded" or len(outcomes) == n_tests:
            return outcomes, stage == "loaded"
    code = judge.wait()
    if code == 128 + signal.SIGPROF:
        outcomes.append(Outcome(code="timeout", detail=f"the test itself took more than {limits.cpu_s:g} s"))
    else:
        said = judge.stderr.read(_MAX_ERROR_BYTES).decode(errors="replace").strip()[-200:]
        outcomes.append(Outcome(code="sandbox_failed", detail=f"the tests' sandbox ended by exit code {code}: {said}"))
    return outcomes, stage == "loaded"


def _how_it_ended(process: "subprocess.Popen[bytes]", detail: str, limits: Limits) -> Outcome:
    """What the exit code of a sandbox says of the code in it, `detail` where it is still there."""
    try:
        code = process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return Outcome(code="exited", detail=detail)
    if code == 128 + signal.SIGPROF:
        return Outcome(code="timeout", detail=f"no result in {limits.cpu_s:g} s of CPU time")
    if code > 128:
        name = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"signal {code - 128}"
        return Outcome(code="crashed", detail=f"the process was ended by {name}")
    return Outcome(code="exited", detail=f"{detail}: exit code {code}")


def _reports(stream: IO[bytes], first_s: float, next_s: float) -> Iterator[list[str] | None]:
    """What the judge writes, as it comes; None where nothing comes in time, `first_s` at first and then `next_s`."""
    held = b""
    deadline = time.monotonic() + first_s
    while _ready([stream], deadline - time.monotonic()):
        content = os.read(stream.fileno(), 65536)
        if not content:
            return
        held += content
        while len(held) >= 8 and len(held) >= (end := 8 + int.from_bytes(held[:8], "big")):
            deadline = time.monotonic() + next_s
            yield _wire.read(io.BytesIO(held[:end]), end)
            held = held[end:]
    yield None


def run_case(code: str, case: Case, limits: Limits) -> Outcome:
    """Run the completion as a program on what the case has as its input, and compare what it writes.

    Outputs are equal if their lines are, blanks at the ends of lines and empty lines at the end left out of account.
    The program must end by itself, with exit code 0.
    """
    reading, started = os.pipe()
    with _sandbox.in_memory(case.stdin.encode("utf-8", "replace")) as stdin, os.fdopen(reading, "rb") as start:
        try:
            process = _sandbox.start(
                "script", limits.payload(1) | {"code": code}, started,
                stdin=stdin.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        finally:
            os.close(started)
        with _ended(process):
            has_started = bool(_ready([start], _START_S)) and start.read(1) == b"1"
            written = _read_output(process, limits.wall_s)
            if not has_started:
                said = written[1].decode(errors="replace").strip()[-200:] if isinstance(written, tuple) else ""
                return Outcome(code="sandbox_failed", detail=f"the sandbox did not start: {said}")
            if isinstance(written, Outcome):
                return written
            output, errors = written
            code_of_exit = process.wait()
    if code_of_exit:
        return _failed_program(process, errors.decode(errors="replace"), limits)
    expected, given = _normal(case.stdout), _normal(output.decode("utf-8", "replace"))
    if given == expected:
        return Outcome(code="pass")
    line = next(
        (i for i, (a, b) in enumerate(zip(expected, given, strict=False)) if a != b), min(len(expected), len(given))
    )
    wanted, got = (repr(lines[line][:_SHOWN]) if line < len(lines) else "nothing" for lines in (expected, given))
    return Outcome(code="wrong_answer", detail=f"line {line + 1} of the output is {got}, not {wanted}")


def _failed_program(process: "subprocess.Popen[bytes]", errors: str, limits: Limits) -> Outcome:
    ended = _how_it_ended(process, "the program ended", limits)
    last = errors.strip().rpartition("\n")[2]
    if ended.code == "exited" and (match := re.match(r"(?:\w+\.)*([A-Z]\w*)(?::|$)", last)):
        return Outcome(code="syntax_error" if match[1] == "SyntaxError" else "exception", detail=last[:300])
    return ended


def _read_output(process: "subprocess.Popen[bytes]", wall_s: float) -> tuple[bytes, bytes] | Outcome:
    """All that a program wrote to stdout and to stderr."""
    assert process.stdout and process.stderr
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    is_open = [process.stdout, process.stderr]
    deadline = time.monotonic() + wall_s
    while is_open:
        ready = _ready(is_open, deadline - time.monotonic())
        if not ready:
            return Outcome(code="timeout", detail=f"waited {wall_s:g} s for it to end")
        for stream in ready:
            content = os.read(stream.fileno(), 65536)
            if not content:
                is_open.remove(stream)
            kept[stream] += content
            if len(kept[stream]) > _MAX_OUTPUT_BYTES:
                return Outcome(code="output_limit", detail=f"more than {_MAX_OUTPUT_BYTES} bytes of output")
    return bytes(kept[process.stdout]), bytes(kept[process.stderr])


def _normal(output: str) -> list[str]:
    return [line.rstrip() for line in output.rstrip().split("\n")]


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever happens, the sandbox and all that is in it has ended afterwards."""
    try:
        yield
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def _ready(streams: Sequence[IO[bytes]], seconds: float) -> list[IO[bytes]]:
    """Those that can be read within that time; by poll, as select knows no file beyond the process's first 1,024."""
    with selectors.PollSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        by_number = {stream.fileno(): stream for stream in streams}
        return [by_number[key.fd] for key, _ in selector.select(max(0.0, seconds))]
