"""MBPP's reference solutions and mutants of them by code_execution, beside a plain run of the same asserts.

    python -m benchmarks.code_execution --data FOLDER [--out FILE.json] [--mutants N] [--hostile N] [--rows N]

FOLDER holds train.jsonl with MBPP's columns (Austin et al. 2021, arXiv:2108.07732; CC BY 4.0, not part of this
repository). A mutant is a solution with one change: an operator, a comparison or a constant is another, a condition is
turned round, a function returns None. In a plain run, solution and asserts are one program, and exit code 0 passes (it
runs in the sandbox too, since a mutant may do anything). The promise: every solution passes, no mutant that fails the
plain run passes here, none that passes it fails here. Hostile rows loop, take memory, exit, fork, recurse or write
without end, in turn: each has its verdict, none passes, no process is left, and good rows go on within 1 s.
"""

import argparse
import ast
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from datagen.contracts.cluster import n_workers
from datagen.contracts.code_tests import Case, to_text
from datagen.contracts.dataset import write_json
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify._test_runs import Limits, run_case
from datagen.verify.code_execution import Config, code_execution
from datagen.verify.pool import Check, Result, in_order

TIMEOUT_S = 2.0
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitXor: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.And: ast.Or, ast.Or: ast.And, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE,
    ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}  # fmt: skip


HOSTILE = (
    "    while True: pass",
    "    return 'x' * 2 ** 31",
    "    import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "    import sys\n    sys.exit(0)",
    "    import os\n    os._exit(0)",
    "    import sys\n    sys.setrecursionlimit(10 ** 9)\n    return [f(x)]",
    "    import re\n    return re.match('(a+)+$', 'a' * 60 + 'b')",
    "    return 10 ** 9 ** 10 ** 9",
    "    while True: print('x' * 10000)",
    "    import time\n    time.sleep(10 ** 6)",
)


def mutants(code: str, n: int, generator: random.Random) -> list[str]:
    """At most `n` programs that differ from `code` by one change each, and from each other."""
    original = ast.unparse(ast.parse(code))
    n_changes = sum(1 for _ in _changes(ast.parse(code)))
    found: list[str] = []
    for chosen in generator.sample(range(n_changes), n_changes):
        tree = ast.parse(code)
        next(change for i, change in enumerate(_changes(tree)) if i == chosen)()
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text != original and text not in found:
            found.append(text)
        if len(found) == n:
            break
    return found


def _changes(tree: ast.Module) -> Iterator[Callable[[], None]]:
    """Every single change that can be made to the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in _OPERATORS:
            yield partial(setattr, node, "op", _OPERATORS[type(node.op)]())
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _OPERATORS:
            yield partial(setattr, node, "ops", [_OPERATORS[type(node.ops[0])](), *node.ops[1:]])
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True:
            for value in (node.value + 1, node.value - 1):
                yield partial(setattr, node, "value", value)
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield partial(setattr, node, "test", ast.UnaryOp(op=ast.Not(), operand=node.test))
        elif isinstance(node, ast.Return) and node.value is not None:
            yield partial(setattr, node, "value", ast.Constant(value=None))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl", metavar="FOLDER")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--mutants", type=int, default=2, help="of each solution, at most (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="the first so many rows alone")
    parser.add_argument("--hostile", type=int, default=100, help="hostile rows (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    lines = (options.data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines][: options.rows]
    generator = random.Random(options.seed)
    start = time.perf_counter()
    verdicts = _judge(rows)
    seconds = time.perf_counter() - start
    changed = [row | {"code": code} for row in rows for code in mutants(row["code"], options.mutants, generator)]
    plain = list(in_order(map(_plain_run, changed), n_workers(), may_start_processes=True))
    found = _judge(changed)
    pairs = Counter(zip(plain, (one.status == "pass" for one in found), strict=True))
    not_passed = [one for one in verdicts if one.status != "pass"]
    false = [
        {"task_id": row["task_id"], "plain": "pass" if passes else "fail", "here": one.status, "detail": one.detail,
         "code": row["code"]}
        for row, passes, one in zip(changed, plain, found, strict=True) if passes != (one.status == "pass")
    ]  # fmt: skip
    result = {
        "benchmark": "code_execution",
        "cpus": os.cpu_count(),
        "workers": n_workers(),
        "solutions": len(rows),
        "solutions_passed": len(rows) - len(not_passed),
        "solutions_per_s": round(len(rows) / seconds, 1),
        "mutants": len(changed),
        "mutants_failing_plainly": pairs[False, False] + pairs[False, True],
        "of_these_passing_here": pairs[False, True],
        "mutants_passing_plainly": pairs[True, True] + pairs[True, False],
        "of_these_failing_here": pairs[True, False],
        "mutants_status": dict(sorted(Counter(one.status for one in found).items())),
        **_hostile(options.hostile),
        "differences": [*({"task_id": one.id, "detail": one.detail} for one in not_passed), *false],
    }
    for name, value in result.items():
        sys.stdout.write(f"{name:26}{value}\n")
    if options.out:
        write_json(options.out, result)


def _plain_run(row: dict[str, Any]) -> Check[bool]:
    """Whether solution, setup and asserts, in MBPP's order and as one program, end with exit code 0."""
    program = "\n".join([row["code"], row["test_setup_code"], *row["test_list"]])
    limits = Limits(cpu_s=3 * TIMEOUT_S, memory_bytes=2**30)
    arguments = (program, Case(stdin="", stdout=""), limits)
    return Check(function=run_case, arguments=arguments, timeout_s=60, conclude=_has_passed)


def _has_passed(result: Result) -> bool:
    if result.status != "done":
        raise RuntimeError(f"a plain run ended by {result.status}: {result.detail}")
    return result.value.code in ("pass", "wrong_answer")  # what it writes does not matter


def _hostile(n: int) -> dict[str, Any]:
    """What became of `n` hostile rows, and how long the first good row after them took."""
    before = set(psutil.pids())
    tests = to_text({"tests": ["assert f(3) == 8"]})
    codes = [f"def f(x):\n{HOSTILE[i % len(HOSTILE)]}" for i in range(n)] + ["def f(x):\n    return 8"]
    traces = [
        Trace(id=str(i), completion=code, prompt=Prompt(id=str(i), messages=[], tests=tests))
        for i, code in enumerate(codes)
    ]
    start, times, statuses = time.perf_counter(), list[float](), list[str]()
    for verdict in code_execution(Config(timeout_s=0.5), traces):
        times.append(time.perf_counter() - start)
        statuses.append(verdict.status)
    after = [one for one in psutil.process_iter(["name"]) if one.pid not in before and one.info["name"] == "bwrap"]
    _, alive = psutil.wait_procs(after, timeout=1)  # the kernel takes a moment to end what is in a killed sandbox
    left = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]  # init collects those
    return {
        "hostile": n,
        "hostile_status": dict(sorted(Counter(statuses[:-1]).items())),
        "hostile_s": round(times[-1], 1),
        "good_row_after_them": statuses[-1],
        "good_row_after_them_s": round(times[-1] - (times[-2] if n else 0), 2),
        "processes_left": len(left),
    }


def _judge(rows: Sequence[dict[str, Any]]) -> list[Verdict]:
    traces = [
        Trace(id=str(i), completion=row["code"], prompt=Prompt(id=str(row["task_id"]), messages=[], tests=to_text(row)))
        for i, row in enumerate(rows)
    ]
    return list(code_execution(Config(timeout_s=TIMEOUT_S), traces))


if __name__ == "__main__":
    main()
