r"""math_answer and its pool: speed, exactness, spellings of MATH's answers, hostile rows, labels of others.

    python -m benchmarks.verify [--out FILE.json] [--only numbers math pool answers labels]
                                [--math FOLDER] [--labels FILE...] [--failures FILE.jsonl]

numbers     Pairs of written numbers (`verify_answers.py`): each verdict against fractions, and answers a second on one
            core and one worker, in turns with plain `math_verify.parse` and `verify` on the same answers. Math-Verify
            gets the answers alone, its timeouts off; ours are in worked solutions. A second is one of CPU time, so
            that a busy machine does not decide; that of the clock stands beside it. Medians of the rounds.
math        References of MATH (FOLDER holds *.jsonl with a `solution` a row; Hendrycks et al. 2021, arXiv:2103.03874)
            beside other spellings of themselves and beside other answers.
pool        Hostile checks in the pool (`verify_hostile.py`), then whether any passed, what processes are left, and how
            long it takes until trivial checks end as fast as before; a burst of checks on 2 workers.
answers     Hostile texts as answers, through math_answer.
labels      Solutions that others have judged (`verify_labels.py` has the formats), beside plain Math-Verify.

Parts that need a file run where it is given. The files are not part of this repository; FAILURES gets the rows that
the parts `math` and `labels` judged otherwise.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import verify_hostile
from benchmarks.verify_answers import PLACES, Pair, number_pairs, rewritten
from benchmarks.verify_labels import Judged, kind_of, math_verify_says, read_labels
from datagen.contracts.cluster import n_workers
from datagen.contracts.dataset import write_json
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify.answers import find_reference
from datagen.verify.math_answer import Config, math_answer
from datagen.verify.pool import Check, Result, in_order

MARKER = "DATASTILL_BENCHMARK_MARKER"  # in the environment of every process that the pool's part starts
_EXPECTED = {True: "pass", False: "fail"}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="some of the parts")
    parser.add_argument("--pairs", type=int, default=10_000, help="of numbers (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the two verifiers (default: %(default)s)")
    parser.add_argument("--math", type=Path, help="folder with *.jsonl", metavar="FOLDER")
    parser.add_argument("--rows", type=int, help="the first so many references of MATH alone")
    parser.add_argument("--plain", type=int, default=3000, help="pairs for Math-Verify (default: %(default)s)")
    parser.add_argument("--hostile", type=int, default=1000, help="hostile checks (default: %(default)s)")
    parser.add_argument("--burst", type=int, default=10_000, help="checks in one burst (default: %(default)s)")
    parser.add_argument("--labels", type=Path, nargs="+", help="files of judged solutions", metavar="FILE", default=[])
    parser.add_argument("--failures", type=Path, help="JSON lines")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    failures: list[dict[str, Any]] = []
    result: dict[str, Any] = {"benchmark": "verify", "cpus": os.cpu_count(), "workers": n_workers()}
    for name in PARTS:
        if name in options.only and (name not in _NEEDS or getattr(options, _NEEDS[name])):
            result[name] = PARTS[name](options, failures)
    for line in table(result):
        sys.stdout.write(line + "\n")
    if options.out:
        write_json(options.out, result)
    if options.failures:
        options.failures.write_text("".join(json.dumps(one) + "\n" for one in failures), encoding="utf-8")


def table(result: dict[str, Any], path: str = "") -> Iterator[str]:
    """A line a figure, named by where it stands in the JSON."""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from table(value, f"{path}{name}: ")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield f"{path + name:74}{value}"


def judge(rows: Iterable[tuple[str, str]], timeout_s: float = 10.0) -> list[Verdict]:
    """Verdicts on (reference, completion) rows."""
    traces = [
        Trace(id=str(i), completion=completion, prompt=Prompt(id=str(i), messages=[], reference=reference))
        for i, (reference, completion) in enumerate(rows)
    ]
    return list(math_answer(Config(timeout_s=timeout_s), traces))


def numbers(options: argparse.Namespace, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Exactness on every pair, then the two verifiers in turns on slices of them."""
    pairs = list(number_pairs(options.pairs, random.Random(options.seed)))
    rows = [(pair.reference, PLACES[i % len(PLACES)].format(pair.answer)) for i, pair in enumerate(pairs)]
    ours: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    with _on_one_core():
        verdicts = judge(rows)
        slices = [pairs[i :: options.rounds] for i in range(options.rounds)]
        for i, some in enumerate(slices):
            few = some[:200]
            ours.append(_rates(len(some), partial(judge, rows[i :: options.rounds])))
            plain.append(_rates(len(few), lambda: [math_verify_says(p.reference, p.answer) for p in few]))  # noqa: B023
    wrong = [(p, v) for p, v in zip(pairs, verdicts, strict=True) if v.status != _EXPECTED[p.same]]
    failures += [_failure("numbers", pair.reference, pair.answer, pair.same, verdict) for pair, verdict in wrong]
    return {
        "pairs": len(pairs),
        "same": sum(pair.same for pair in pairs),
        "verdicts that differ from fractions": len(wrong),
        **{
            f"{who}, answers a {second}": round(statistics.median(rate[at] for rate in rates))
            for at, second in enumerate(("second of one core", "second by the clock"))
            for who, rates in (("here", ours), ("math-verify", plain))
        },
        "times, medians of the rounds": round(
            statistics.median(a[0] / b[0] for a, b in zip(ours, plain, strict=True)), 1
        ),
    }


def _rates(n: int, act: Callable[[], object]) -> tuple[float, float]:
    """`n` a second of CPU time, of this process and of those that it started and ended, and by the clock."""
    start, cpu = time.perf_counter(), sum(os.times()[:4])
    act()
    return n / (sum(os.times()[:4]) - cpu), n / (time.perf_counter() - start)


@contextmanager
def _on_one_core() -> Iterator[None]:
    """This process and those that it starts on one core, and one worker."""
    cores, workers = os.sched_getaffinity(0), os.environ.get("DATASTILL_WORKERS")
    os.sched_setaffinity(0, {max(cores)})
    os.environ["DATASTILL_WORKERS"] = "1"
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.environ.pop("DATASTILL_WORKERS")
        if workers is not None:
            os.environ["DATASTILL_WORKERS"] = workers


def spellings(options: argparse.Namespace, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Every reference of MATH beside up to four spellings of it and three other answers."""
    generator = random.Random(options.seed)
    lines = [line for file in sorted(options.math.glob("*.jsonl")) for line in file.read_text("utf-8").splitlines()]
    references = [find_reference(json.loads(line)["solution"]) for line in lines][: options.rows]
    pairs = [pair for reference in references for pair in rewritten(reference, 4, 3, generator)]
    verdicts = judge((pair.reference, rf"So it is \boxed{{{pair.answer}}}.") for pair in pairs)
    few = generator.sample(range(len(pairs)), min(options.plain, len(pairs)))
    plain = [status == "pass" for status in _plain([(f"${pairs[i].reference}$", f"${pairs[i].answer}$") for i in few])]
    here = [verdict.status == "pass" for verdict in verdicts]
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if (verdict.status == "pass") != pair.same:
            failures.append(_failure(pair.how, pair.reference, pair.answer, pair.same, verdict))
    return {
        "references": len(references),
        "here": _shares(pairs, here),
        "math-verify, a sample": _shares([pairs[i] for i in few], plain),
        "not so by kind": dict(
            sorted(Counter(p.how for p, passed in zip(pairs, here, strict=True) if passed != p.same).items())
        ),
    }


def _shares(pairs: Sequence[Pair], passed: Sequence[bool]) -> dict[str, Any]:
    same = [got for pair, got in zip(pairs, passed, strict=True) if pair.same]
    other = [got for pair, got in zip(pairs, passed, strict=True) if not pair.same]
    return {
        "same": len(same),
        "same that pass, %": round(100 * sum(same) / len(same), 3),
        "others": len(other),
        "others that pass, %": round(100 * sum(other) / len(other), 3),
    }


def _plain(rows: Sequence[tuple[str, str]]) -> list[str]:
    """What Math-Verify says, in the pool, since it may hang: pass, fail, error or timeout."""
    checks = (_check(math_verify_says, *row, timeout_s=10.0) for row in rows)
    return [
        _EXPECTED[bool(result.value)] if result.status == "done" else result.status
        for result in in_order(checks, n_workers(), ("math_verify",))
    ]


def _check(function: Callable[..., Any], *arguments: object, timeout_s: float) -> Check[Result]:
    return Check(function=function, arguments=arguments, timeout_s=timeout_s, conclude=lambda result: result)


def hostile_checks(options: argparse.Namespace, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Hostile checks and the rate of trivial ones before and after, in one pool; then a burst."""
    os.environ[MARKER] = marker = f"{os.getpid()}-{time.time_ns()}"
    n_before, n_after = 2000, 4000
    checks = [
        *(_check(verify_hostile.trivial, i, timeout_s=10.0) for i in range(n_before)),
        *(_check(verify_hostile.CHECKS[i % len(verify_hostile.CHECKS)], timeout_s=0.1) for i in range(options.hostile)),
        *(_check(verify_hostile.trivial, i, timeout_s=10.0) for i in range(n_after)),
    ]
    times: list[float] = []
    results: list[Result] = []
    for result in in_order(checks, n_workers(), ("benchmarks.verify_hostile",)):
        times.append(time.perf_counter())
        results.append(result)
    end = n_before + options.hostile
    rate = (n_before // 2) / (times[n_before - 1] - times[n_before // 2 - 1])
    ended = results[n_before:end]
    left = marked(marker)
    start = time.perf_counter()
    burst = in_order((_check(verify_hostile.trivial, i, timeout_s=0.05) for i in range(options.burst)), 2)
    in_burst = Counter(result.status for result in burst)
    burst_s = time.perf_counter() - start
    os.environ.pop(MARKER)
    return {
        "hostile": len(ended),
        "status": dict(sorted(Counter(result.status for result in ended).items())),
        "passes": sum(result.status == "done" for result in ended),
        "processes left": len(left),
        "seconds": round(times[end - 1] - times[n_before - 1], 1),
        "trivial checks a second before": round(rate),
        "back at 90 % of that after, s": round(seconds_until_back(times[end - 1 :], 0.9 * rate), 2),
        "burst on 2 workers": options.burst,
        "burst, false timeouts": options.burst - in_burst["done"],
        "burst, s": round(burst_s, 2),
    }


def seconds_until_back(times: Sequence[float], rate: float, n: int = 200) -> float:
    """From `times[0]` to the start of the first `n` ends that come at `rate` a second; infinite where none do."""
    for first, last in zip(times, times[n:], strict=False):
        if n / (last - first) >= rate:
            return first - times[0]
    return math.inf


def marked(marker: str) -> list[int]:
    """Processes that have the marker in their environment, this one excepted: whoever their parent is by now."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == marker and process.pid != os.getpid():
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    children = [child.pid for child in psutil.Process().children(recursive=True)]  # zombies have no environment
    return sorted({*found, *children})


def hostile_answers(options: argparse.Namespace, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Each hostile text as the answer to a number and to a formula."""
    del options
    rows = [
        (reference, place.format(text))
        for text in verify_hostile.ANSWERS
        for reference, place in (("7", r"\boxed{{{}}}"), (r"\sqrt{2}", "The answer is {}"))
    ]
    verdicts = judge(rows, timeout_s=1.0)
    failures += [
        _failure("answers", *row, False, one) for row, one in zip(rows, verdicts, strict=True) if one.status == "pass"
    ]
    return {
        "rows": len(rows),
        "status": dict(sorted(Counter(verdict.status for verdict in verdicts).items())),
        "passes": sum(verdict.status == "pass" for verdict in verdicts),
    }


def labels(options: argparse.Namespace, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement with each file's labels and, over all files, with those of each kind of reference."""
    rows = [row for file in options.labels for row in read_labels(file)]
    verdicts = judge((row.reference, rf"\boxed{{{row.completion}}}" if row.bare else row.completion) for row in rows)
    here = [verdict.status == "pass" for verdict in verdicts]
    plain = [status == "pass" for status in _plain([(_formula(row.reference), row.completion) for row in rows])]
    for row, verdict, other in zip(rows, verdicts, plain, strict=True):
        if (verdict.status == "pass") != row.label:
            failure = _failure(row.source, row.reference, row.completion, row.label, verdict)
            failures.append(failure | {"math_verify": other})
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        for name in (row.source, f"{'a' if row.bare else 'solution'}: {kind_of(row.reference)}"):
            groups.setdefault(name, []).append(i)
    return {
        name: {
            "rows": len(chosen),
            "here": agreement([(rows[i], here[i]) for i in chosen]),
            "math-verify": agreement([(rows[i], plain[i]) for i in chosen]),
        }
        for name, chosen in sorted(groups.items())
    }


def _formula(text: str) -> str:
    """A reference as Math-Verify wants TeX: between dollar signs."""
    return f"${text}$" if "\\" in text and "$" not in text and "\\(" not in text and "\\[" not in text else text


def agreement(judged: Sequence[tuple[Judged, bool]]) -> dict[str, str]:
    """Precision, recall and the share of wrong rows that pass, in percent, with Wilson's 95 % intervals."""
    right_passes = sum(row.label and passed for row, passed in judged)
    passes = sum(passed for _, passed in judged)
    right = sum(row.label for row, _ in judged)
    return {
        "precision": _interval(right_passes, passes),
        "recall": _interval(right_passes, right),
        "false passes": _interval(passes - right_passes, len(judged) - right),
    }


def _interval(n: int, of: int) -> str:
    return f"{100 * n / of:.2f} % ({', '.join(f'{100 * one:.2f}' for one in wilson(n, of))}) of {of}" if of else "none"


def wilson(n: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927); z for 95 %."""
    share, square = n / of, z * z / of
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def _failure(how: str, reference: str, text: str, same: bool, verdict: Verdict) -> dict[str, Any]:
    return {
        "how": how, "same": same, "status": verdict.status, "reference": reference, "text": text,
        "detail": verdict.detail,
    }  # fmt: skip


PARTS: dict[str, Callable[[argparse.Namespace, list[dict[str, Any]]], dict[str, Any]]] = {
    "numbers": numbers, "math": spellings, "pool": hostile_checks, "answers": hostile_answers, "labels": labels,
}  # fmt: skip
_NEEDS = {"math": "math", "labels": "labels"}


if __name__ == "__main__":
    main()
