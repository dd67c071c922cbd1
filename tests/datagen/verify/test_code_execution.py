"""Oracles: verdicts by hand; for every way to cheat, a plain run of the same text, which it does deceive."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from datagen.contracts.code_tests import to_text
from datagen.contracts.dataset import iterate
from datagen.contracts.errors import MissingError
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.stage import main
from datagen.stages.verify import STAGE
from datagen.verify.by_row import Config as ByRow
from datagen.verify.by_row import by_row
from datagen.verify.code_execution import Config, code_execution, find_code
from datagen.verify.pool import KeptWorkers

REMEDY = "apt-get install bubblewrap"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def bwrap(needs: Callable[..., None]) -> None:
    needs(program="bwrap", remedy=REMEDY)


def trace(completion: str, *, id: str = "a", reference: str | None = None, **tests: Any) -> Trace:
    return Trace(
        id=id, completion=completion, prompt=Prompt(id=id, messages=[], tests=to_text(tests), reference=reference)
    )


@pytest.fixture(scope="module")
def judge() -> Iterator[Callable[..., Verdict]]:
    """One row's verdict, by workers that are kept, since a start of one takes longer than most rows."""
    with KeptWorkers() as workers:

        def verdict(completion: str, *, timeout_s: float = 5.0, **tests: Any) -> Verdict:
            with workers.serving():
                (found,) = code_execution(Config(timeout_s=timeout_s), [trace(completion, **tests)])
            return found

        yield verdict


HONEST: list[tuple[str, list[str] | str]] = [
    ("def f(x):\n    print('noise')\n    return x + 5", ["assert f(3) == 8", "assert f(-5) != 1"]),
    ("def f(x):\n    return [(x, {x: 's'}), {x}, frozenset([x]), None, True, 2.5, b'a', 3j]",
     ["assert f(1) == [(1, {1: 's'}), {1}, frozenset({1}), None, True, 2.5, b'a', 3j]"]),
    ("def f(n):\n    return 7 ** n", ["assert f(9000) == 7 ** 9000"]),
    ("def f(x):\n    return x ** 0.5", ["assert abs(f(2) - 1.41421356) < 1e-6"]),
    ("def f():\n    return float('nan'), float('-inf')", ["assert str(f()) == '(nan, -inf)'"]),
    ("def f(n):\n    for i in range(n):\n        yield i * i",
     ["assert list(f(3)) == [0, 1, 4]", "assert sum(f(4)) == 14",
      "for a, b in zip(f(3), [0, 1, 4]):\n    assert a == b"]),
    ("def f(values):\n    values.sort()", ["v = [3, 1, 2]\nf(v)\nassert v == [1, 2, 3]"]),
    ("def f(d, s, b):\n    d['k'] = 1; s.add(2); b.append(3)",
     ["d, s, b = {}, set(), bytearray()\nf(d, s, b=b)\nassert (d, s, b) == ({'k': 1}, {2}, bytearray([3]))"]),
    ("def f(values, keep):\n    return [v for v in values if keep(v)]",
     ["assert f([1, 2, 3], lambda v: v > 1) == [2, 3]"]),
    ("def f(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x",
     ["try:\n    f(-1)\nexcept ValueError as error:\n    assert 'neg' in str(error)\nelse:\n    assert False"]),
    ("class Own(KeyError): pass\ndef f():\n    raise Own('x')",
     ["try:\n    f()\n    assert False\nexcept LookupError:\n    pass"]),
    ("from fractions import Fraction\nimport datetime, decimal, collections\ndef f():\n"
     "    return [Fraction(1, 3), datetime.date(2020, 2, 29), decimal.Decimal('1.10'), collections.Counter('aab'),\n"
     "            collections.OrderedDict(a=1), collections.deque([1, 2], 3), range(3), datetime.timedelta(1)]",
     "import fractions, datetime, collections\nfrom decimal import Decimal\nassert f() == [fractions.Fraction(2, 6),\n"
     "  datetime.date(2020, 2, 29), Decimal('1.1'), collections.Counter(a=2, b=1), {'a': 1},\n"
     "  collections.deque([1, 2]), range(0, 3), datetime.timedelta(days=1)]"),
    ("class Stack:\n    def __init__(self, items=()):\n        self.items = list(items)\n"
     "    def push(self, x):\n        self.items.append(x)\n        return self\n"
     "    def __len__(self):\n        return len(self.items)\n"
     "    def __getitem__(self, i):\n        return self.items[i]\n"
     "    def __str__(self):\n        return f'Stack{self.items}'",
     ["s = Stack([1])\ns.push(2).push(3)\nassert len(s) == 3 and s[1] == 2 and list(s) == [1, 2, 3]",
      "assert str(Stack('ab')) == \"Stack['a', 'b']\"", "s = Stack()\ns.items = [4]\nassert s.items == [4] and s"]),
    ("def f(x):\n    return x\nif __name__ == '__main__':\n    print(f(int(input())))", ["assert f(1) == 1"]),
    ("import sys\ndef f(x):\n    return sys.getsizeof(x)", ["assert f((1, 2)) == sys.getsizeof((1, 2))"]),
    ("def f(x):\n    return x * 2\n",
     "METADATA = {'author': 'x'}\ndef check(candidate):\n    assert candidate(2) == 4\n"
     "    assert candidate('a') == 'aa'\ncheck(f)"),
    ("import math\ndef f(x):\n    return math.pi", ["assert math.isclose(f(3), 3.14159265358979)"]),
    ("def code(x):\n    return x", ["assert code(3) == 3"]),
    ("def f(x, kind):\n    return [v for v in x if type(v) != kind], kind",
     ["assert f([1, 'a'], int) == (['a'], int)"]),
    ("def f(x):\n    return x * 2\ndef g(x):\n    return x + x", ["assert all(f(i) == g(i) for i in range(5))"]),
    ("def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)", ["assert f(900) == 900"]),
    ("import threading\ndef f(x):\n    out = []\n    t = threading.Thread(target=out.append, args=(x,))\n"
     "    t.start(); t.join()\n    return out", ["assert f(4) == [4]"]),
    ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\ndef f(x):\n    return P(x)",
     ["assert f(3).x == 3"]),
    ("cache = {}\ndef f(x):\n    cache[x] = 1\n    return len(cache)",
     ["assert f(1) == 1", "assert f(2) == 2", "assert cache == {1: 1, 2: 1}"]),
    ("def f(x):\n    return '\\ud800' + x", ["assert f('\\udfff') == '\\ud800\\udfff'"]),
]  # fmt: skip


def test_honest_code_passes():
    """Every kind of value, argument, object and test; each is right in a plain run, too."""
    verdicts = list(code_execution(Config(), [trace(code, tests=tests) for code, tests in HONEST]))
    for verdict, (code, tests) in zip(verdicts, HONEST, strict=True):
        program = "\n".join([code.replace("'__main__'", "'no'"), *([tests] if isinstance(tests, str) else tests)])
        assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0, program
        assert (verdict.status, verdict.score, verdict.reason) == ("pass", 1.0, None), (code, verdict.detail)


EIGHT = ["assert f(3) == 8"]
CHEATS: dict[str, tuple[str, list[str], str]] = {
    "exit at once": ("import os; os._exit(0)", EIGHT, "exited"),
    "sys.exit at once": ("import sys; sys.exit(0)", EIGHT, "exited"),
    "exit in the call": ("import os\ndef f(x):\n    os._exit(0)", EIGHT, "exited"),
    "sys.exit in the call": ("import sys\ndef f(x):\n    sys.exit(0)", EIGHT, "exited"),
    "exit under a test that catches everything": (
        "import os\ndef f(x):\n    os._exit(0)",
         ["try:\n    assert f(3) == 8\nexcept BaseException:\n    raise"], "exited"),
    "exit by a thread": (
        "import os, threading as t, time\ndef f(x):\n    t.Thread(target=os._exit, args=(0,)).start(); time.sleep(9)",
        EIGHT, "exited"),
    "exit handler": ("import atexit, os\natexit.register(os._exit, 0)\ndef f(x): pass", EIGHT, "wrong_answer"),
    "exception hook": (
        "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\ndef f(x): pass", EIGHT, "wrong_answer"),
    "equal to everything": (
        "class E:\n    __eq__ = lambda s, o: True\ndef f(x):\n    return E()", EIGHT, "wrong_answer"),
    "equal to everything, a number": (
        "class E(int):\n    __eq__ = lambda s, o: True\ndef f(x):\n    return E()", EIGHT, "wrong_answer"),
    "equal to everything, in a list": (
        "class E:\n    __eq__ = lambda s, o: True\ndef f(x):\n    return [E()]",
         ["assert f(3) == [8]"], "wrong_answer"),
    "equal to everything, as the standard library has it": (
        "from unittest.mock import ANY\ndef f(x):\n    return ANY", EIGHT, "wrong_answer"),
    "equal to everything, a dict": (
        "class E(dict):\n    __eq__ = lambda s, o: True\ndef f(x):\n    return E()",
         ["assert f(3) == {1: 2}"], "wrong_answer"),
    "equal by a metaclass": (
        "class M(type):\n    __eq__ = lambda s, o: True\n    __hash__ = None\nclass E(metaclass=M): pass\n"
        "def f(x):\n    return E", EIGHT, "wrong_answer"),
    "holds everything": (
        "class E:\n    __contains__ = lambda s, o: True\n    __iter__ = lambda s: iter(())\ndef f(x):\n    return E()",
        ["assert 8 in f(3)"], "wrong_answer"),
    "close to everything": (
        "class E(float):\n    __sub__ = lambda s, o: 0.0\ndef f(x):\n    return E()",
         ["assert abs(f(3) - 8) < 1e-9"], "wrong_answer"),
    "patched builtin": (
        "import builtins\nbuiltins.sorted = lambda x: [8]\ndef f(x): pass",
         ["assert sorted(f(3)) == [8]"], "exception"),
    "a builtin's name taken": (
        "class E:\n    __eq__ = lambda s, o: True\ndef sorted(x):\n    return E()\ndef f(x):\n    return [1]",
        ["assert sorted(f(3)) == [8]"], "wrong_answer"),
    "the test's constants read from its frame": (
        "import sys\ndef f(x):\n    return max(c for c in sys._getframe(1).f_code.co_consts if isinstance(c, int))",
        EIGHT, "exception"),
    "the line jumped over": (
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    def jump(fr, event, arg):\n"
        "        fr.f_lineno = fr.f_lineno + 2\n        sys.settrace(None)\n    sys.settrace(lambda *_: None)\n"
        "    frame.f_trace = jump",
        ["y = f(3)\nz = 1\nassert y == 8\nz = 2"], "exception"),
    "a loop of the tests ended": (
        "def f(x):\n    raise StopIteration", ["assert all(map(f, [3, 4]))"], "exception"),
    "a module replaced": (
        "import math, sys, types\nfake = types.ModuleType('math')\nfake.isclose = lambda *_, **__: True\n"
        "sys.modules['math'] = fake\ndef f(x):\n    return 1.0",
        ["import math\nassert math.isclose(f(3), 8)"], "wrong_answer"),
    "a class with a module's name": (
        "class math:\n    isclose = lambda *_: True\ndef f(x):\n    return 1.0",
        ["assert math.isclose(f(3), 8)"], "wrong_answer"),
    "the expected value replaced": (
        "import __main__, sys\ndef f(x):\n    sys._getframe(1).f_globals['expected'] = None",
        ["expected = 8\ngot = f(3)\nassert got == expected"], "wrong_answer"),
}  # fmt: skip


def test_no_cheat_passes():
    """Each is deemed right by a plain run, whose exit code is 0; here none is, for the reason that it should be."""
    verdicts = code_execution(Config(), [trace(code, tests=tests) for code, tests, _ in CHEATS.values()])
    for verdict, (name, (code, tests, reason)) in zip(verdicts, CHEATS.items(), strict=True):
        plain = subprocess.run([sys.executable, "-c", "\n".join([code, *tests])], capture_output=True, text=True)
        assert plain.returncode == 0, (name, plain.stderr)
        assert (verdict.status, verdict.score, verdict.reason) == ("fail", 0.0, reason), (name, verdict.detail)


def test_a_result_that_the_completion_writes_is_none(judge: Callable[..., Verdict]):
    """Into every open file, as the judge would write it, and in files of every likely name."""
    code = (
        "import os\ndef f(x):\n    for n in range(64):\n        try:\n"
        '            os.write(n, b\'["pass", ""]\\n\' * 99)\n'
        "        except OSError:\n            pass\n"
        "    for name in ('result', 'result.json', 'results.json'):\n        open(name, 'w').write('[\"pass\"]')"
    )
    verdict = judge(code, tests=EIGHT)
    assert (verdict.status, verdict.score) == ("fail", 0.0), verdict.detail


def test_a_predicate_is_no_value_of_the_completion_s(judge: Callable[..., Verdict]):
    """Objects of a class of its own, compared with each other: it would decide itself, so there is no finding."""
    code = "class E:\n    __eq__ = lambda s, o: True\ndef f(x):\n    return E()"
    verdict = judge(code, tests=["assert f(3) == f(4)"])
    assert (verdict.status, verdict.reason) == ("error", "unsupported")


def test_a_test_of_nothing_is_no_pass(judge: Callable[..., Verdict]):
    """Oracle by hand: the builtin answers, not the completion; a constant is true whatever the completion is."""
    verdict = judge("def sum(values):\n    return 0", tests=["assert sum([1, 2]) == 3", "assert True"])
    assert (verdict.status, verdict.reason, verdict.score) == ("error", "untested", 0.0)


def test_score_is_the_pass_rate_and_each_test_is_judged_for_itself(judge: Callable[..., Verdict]):
    """Crash, exit, endless loop, wait, wrong, exception, and right ones between them, by hand."""
    code = (
        "import os, time, ctypes\ndef f(x):\n    if x == 1: ctypes.string_at(0)\n    if x == 2: os._exit(0)\n"
        "    if x == 3:\n        while True: pass\n    if x == 4: time.sleep(1000)\n    if x == 5: return None\n"
        "    if x == 6: raise KeyError('k')\n    return x"
    )
    tests = [f"assert f({i}) == {i}" for i in range(8)]
    verdict = judge(code, timeout_s=1.5, tests=tests)
    assert (verdict.status, verdict.score, verdict.reason) == ("fail", 2 / 8, "crashed")
    assert verdict.detail
    told = dict(part.split(" (", 1) for part in verdict.detail.split("; ")[1:])
    assert {name: words.split("): ")[1].split(":")[0] for name, words in told.items()} == {
        "test 2": "crashed", "test 3": "exited", "test 4": "timeout", "test 5": "timeout", "test 6": "wrong_answer",
        "test 7": "exception",
    }  # fmt: skip
    assert "SIGSEGV" in verdict.detail and "got None" in verdict.detail and "KeyError" in verdict.detail


def test_at_most_ten_tests(judge: Callable[..., Verdict]):
    """Twelve, of which the last two would fail; cases come after the asserts."""
    tests = [f"assert f({i}) == min({i}, 9)" for i in range(10)] + ["assert f(11) == 0", "assert f(12) == 0"]
    verdict = judge("def f(x):\n    return x", tests=tests, cases=[{"stdin": "", "stdout": "no"}])
    assert (verdict.status, verdict.score) == ("pass", 1.0)
    assert verdict.detail == "the whole completion: 10 of 10 tests passed, the first 10 of 13"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(sum(int(input()) for _ in range(2)))", ("pass", 1.0, None)),
        ("import sys\nprint(*map(str, [sum(map(int, sys.stdin.read().split()))]), '  ')\nexit()", ("pass", 1.0, None)),
        ("if __name__ == '__main__':\n    print(int(input()) + int(input()))\n    print()", ("pass", 1.0, None)),
        ("print(3)", ("fail", 0.5, "wrong_answer")),
        ("pass", ("fail", 0.0, "wrong_answer")),
        ("import os; os._exit(0)", ("fail", 0.0, "wrong_answer")),
        ("print(sum(int(input()) for _ in range(2)))\nraise SystemExit(1)", ("fail", 0.0, "exited")),
        ("print(sum(int(input()) for _ in range(3)))", ("fail", 0.0, "exception")),
        ("while True: print('3' * 10000)", ("fail", 0.0, "output_limit")),
        ("while True: pass", ("timeout", 0.0, "timeout")),
        ("import sys\nsys.stdin.close()\nimport time\ntime.sleep(100)", ("timeout", 0.0, "timeout")),
        ("```python\nprint(3\n```", ("fail", 0.0, "syntax_error")),
        ("I do not know.", ("unparsed", 0.0, "no_code")),
        ("", ("unparsed", 0.0, "no_code")),
        ("```bash\nls\n```", ("unparsed", 0.0, "no_code")),
    ],
)  # fmt: skip
def test_programs_are_judged_by_what_they_write(
    judge: Callable[..., Verdict], code: str, expected: tuple[str, float, str | None]
):
    """Sums by hand."""
    cases = [{"stdin": "1\n2\n", "stdout": "3\n"}, {"stdin": "5\n-7", "stdout": "-2"}]
    verdict = judge(code, timeout_s=0.5, cases=cases)
    assert (verdict.status, verdict.score, verdict.reason) == expected, verdict.detail


@pytest.mark.parametrize(
    ("completion", "names", "code", "rule"),
    [
        ("def f(): pass", [], "def f(): pass", "the whole completion"),
        ("So:\n```python\na = 1\n```\nor\n```\nb = 1\n```\n", [], "a = 1\n", "fenced block 1 of 1"),
        ("```py\na = 1\n```\n```Python\nb = 1\n```\n", [], "b = 1\n", "fenced block 2 of 2"),
        ("```python\ndef f(): pass\n```\nUse:\n```python\nf()\n```", ["f"], "def f(): pass\n", "fenced block 1 of 2"),
        ("```\na = 1\n```\n```sh\nls\n```", [], "a = 1\n", "fenced block 1 of 1"),
        ("cut off\n```python\na = 1", [], "a = 1", "fenced block 1 of 1"),
        ("~~~~python\na = '''\n```\n'''\n~~~~\n", [], "a = '''\n```\n'''\n", "fenced block 1 of 1"),
    ],
)
def test_the_rule_that_finds_the_code(completion: str, names: list[str], code: str, rule: str):
    """Read by hand."""
    found = find_code(completion, names)
    assert found and (found.text, found.rule) == (code, rule)


def test_rows_as_mbpp_has_them(judge: Callable[..., Verdict]):
    """A setup that builds what the completion's own class makes; wrong by hand: a tree of height 2."""
    code = (
        "class Node:\n    def __init__(self, v):\n        self.v, self.left = v, None\n"
        "def height(n):\n    return 0 if n is None else 1 + height(n.left)"
    )
    row = {"test_setup_code": "root = Node(1)\nroot.left = Node(2)", "test_list": ["assert height(root) == 2"]}
    assert judge(code, **row).status == "pass"
    assert judge(code.replace("1 + ", "2 + "), **row).status == "fail"
    pair = {"test_setup_code": "class Pair:\n    def __init__(self, a):\n        self.a = a",
            "test_list": ["assert f([Pair(1), Pair(2)]) == 3"]}  # fmt: skip
    assert judge("def f(pairs):\n    return sum(p.a for p in pairs)", **pair).status == "pass"


@pytest.mark.parametrize(
    ("completion", "tests", "expected"),
    [
        ("def f(x: return 8", {"tests": EIGHT}, ("unparsed", "no_code")),
        ("```python\ndef f(x: return 8\n```", {"tests": EIGHT}, ("fail", "syntax_error")),
        ("import no_such_module", {"tests": EIGHT}, ("fail", "load_error")),
        ("while True: pass", {"tests": EIGHT}, ("timeout", "timeout")),
        ("def g(x): return 8", {"tests": EIGHT}, ("fail", "exception")),
        ("def f(x): return 8", {"tests": ["assert f(3) = 8"]}, ("error", "bad_tests")),
        ("def f(x): return 8", {"tests": "import os\n"}, ("error", "no_tests")),
        ("def f(x): return 8", {}, ("error", "no_tests")),
        ("def f(x): return 8", {"tests": "expected = g(3)\nassert f(3) == expected"}, ("fail", "exception")),
        ("def f(x): return x", {"tests": ["class A: pass\nassert f(A())"]}, ("error", "unsupported")),
        ("def f(x): return ' ' * 10 ** 8", {"tests": EIGHT}, ("fail", "exited")),
        ("def f(x):\n    y = []\n    y.append(y)\n    return y", {"tests": EIGHT}, ("fail", "exception")),
        ("def f(x): return 10 ** 9", {"tests": ["assert [0] * f(3) == 8"]}, ("fail", "exception")),
    ],
)  # fmt: skip
def test_what_is_no_pass_says_why(
    judge: Callable[..., Verdict], completion: str, tests: dict[str, object], expected: tuple[str, str]
):
    """By hand."""
    verdict = judge(completion, timeout_s=1.0, **tests)
    assert (verdict.status, verdict.reason, verdict.score) == (*expected, 0.0), verdict.detail
    assert verdict.detail


def rows(n: int) -> Iterator[Trace]:
    """Right, wrong and hanging ones in turn."""
    for i in range(n):
        code = ("return x", "return -1", "\n while True: pass")[i % 3] if i < 6 else "return x"
        yield trace(
            f"def f(x): {code}" if "\n" not in code else f"def f(x):{code}", id=str(i), tests=["assert f(1) == 1"]
        )


def test_results_are_the_same_for_any_number_of_workers(monkeypatch: pytest.MonkeyPatch):
    found: list[list[Verdict]] = []
    for n in ("1", "3"):
        monkeypatch.setenv("DATASTILL_WORKERS", n)
        found.append(list(code_execution(Config(timeout_s=1.5), rows(10))))
    assert found[0] == found[1]
    assert [one.id for one in found[0]] == [str(i) for i in range(10)]
    assert [one.status for one in found[0]] == ["pass", "fail", "timeout"] * 2 + ["pass"] * 4
    assert not any("bwrap" in one.name() for one in psutil.Process().children(recursive=True))


def test_reads_ahead_by_a_bounded_number():
    n_read = itertools.count()
    endless = (trace("while True: pass", tests=EIGHT) if i == 0 else trace("", tests=EIGHT) for i in n_read)
    verdicts = code_execution(Config(timeout_s=0.5), endless)
    assert next(verdicts).status == "timeout"
    assert next(n_read) <= 1025
    verdicts.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_by_row_sends_code_to_its_tests():
    """Rows of each kind; a reference beside tests is a solution and is not compared; constraints must hold too."""
    quoted = Prompt(
        id="q", messages=[], tests=to_text({"tests": EIGHT}), constraints=[{"id": "startend:quotation", "kwargs": "{}"}]
    )
    traces = [
        trace("def f(x): return 8", tests=EIGHT, reference="9"),
        trace("def f(x): return 9", tests=EIGHT, reference="9"),
        trace("9", reference="9"),
        Trace(id="q", prompt=quoted, completion="def f(x): return 8"),
        trace("9"),
    ]
    verdicts = list(by_row(ByRow(), traces))
    assert [one.status for one in verdicts] == ["pass", "fail", "pass", "fail", "error"]
    assert [one.reason for one in verdicts] == [None, "wrong_answer", None, "startend:quotation", "no_reference"]


def test_by_row_needs_a_sandbox_for_code_alone(tmp_path: Path):
    """The stage as a user starts it, where no program is found: a number is judged, code is never run."""
    for name, row, exit_code in (
        ("number", {"prompt": "p", "completion": "9", "reference": "9"}, 0),
        ("code", {"prompt": "p", "completion": "def f(x): return 8", "tests": EIGHT}, MissingError.exit_code),
    ):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        words = ["--traces", f"{name}.jsonl", "--out", name, "--set", "method=by_row"]
        done = subprocess.run(
            [sys.executable, "-m", "datagen.stages.verify", *words], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PATH": "", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == exit_code, done.stderr
        assert ("apt-get install bubblewrap" in done.stderr) == (name == "code")
        assert (tmp_path / name).exists() == (name == "number")


def test_the_stage_carries_the_tests_through(tmp_path: Path):
    """From a user's file to the dataset and its rejected traces; scores at a threshold of one half."""
    source = tmp_path / "rows.jsonl"
    given = [
        {"prompt": "p", "completion": "def f(x):\n    return 8", "tests": ["assert f(3) == 8", "assert f(4) == 9"]},
        {"prompt": "p", "completion": "print(input())", "cases": [{"stdin": "a", "stdout": "a"}]},
        {"prompt": "p", "completion": "def f(x):\n    return 7", "test_list": EIGHT, "test_setup_code": "import math"},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    out, metrics = tmp_path / "verified", tmp_path / "metrics.json"
    paths = ["--traces", str(source), "--out", str(out), "--metrics", str(metrics)]
    assert main(STAGE, [*paths, "--set", "method=code_execution", "threshold=0.5"]) == 0
    assert json.loads(metrics.read_text())["status"] == {"fail": 2, "pass": 1}
    assert [json.loads(row["tests"]) for row in iterate(out)] == [
        {"asserts": ["assert f(3) == 8", "assert f(4) == 9"]},
        {"cases": [{"stdin": "a", "stdout": "a"}]},
    ]
    assert [json.loads(row["tests"]) for row in iterate(out, "rejected")] == [
        {"asserts": EIGHT, "setup": "import math"}
    ]
