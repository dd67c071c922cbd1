"""Generators, readers and figures of benchmarks/verify.py on a few rows, so that they do not rot; nothing is timed."""

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks import verify_hostile
from benchmarks.verify import judge, marked, seconds_until_back, wilson
from benchmarks.verify_answers import number_pairs, rewritten
from benchmarks.verify_labels import Judged, kind_of, read_labels
from datagen.verify.pool import Check, in_order


def test_ten_pairs_of_numbers_are_judged_as_they_were_made():
    """The generator knows what it wrote."""
    pairs = list(number_pairs(10, random.Random(3)))
    statuses = [verdict.status for verdict in judge((pair.reference, f"#### {pair.answer}") for pair in pairs)]
    assert statuses == ["pass" if pair.same else "fail" for pair in pairs]
    assert {pair.same for pair in pairs} == {True, False}


@pytest.mark.parametrize(
    ("reference", "same", "wrong"),
    [
        (r"\frac{3}{4}", {"3/4", "0.75", r"\frac{6}{8}"}, {r"\frac{4}{3}", r"-\frac{3}{4}", r"\frac{4}{4}"}),
        ("[0,2)", {r"\left[0,2\right)", r"\([0,2)\)"}, {"(0,2)", "[0,2]"}),
        ("1,-2", {"-2, 1", r"\{-2, 1\}"}, {"1", "-2"}),
        (r"2\sqrt{5}", {r"\sqrt{20}", r"2 \cdot \sqrt{5}"}, {r"-2\sqrt{5}"}),
        (r"\text{(B)}", {"B", "(B)"}, {r"\text{(C)}"}),
    ],
)
def test_rewritten_references(reference: str, same: set[str], wrong: set[str]):
    """By hand: some of what must be among the spellings and the other answers, and nothing in both."""
    pairs = list(rewritten(reference, 100, 100, random.Random(0)))
    found = {truth: {pair.answer for pair in pairs if pair.same == truth} for truth in (True, False)}
    assert same <= found[True]
    assert wrong <= found[False]
    assert not found[True] & found[False]


def test_hostile_checks_do_not_pass():
    """Those that end at once; the others only cost time."""
    fast = [verify_hostile.leave_a_daemon, verify_hostile.leave_at_once, verify_hostile.power_of_floats]
    checks = [Check(function=f, arguments=(), timeout_s=5.0, conclude=lambda result: result.status) for f in fast]
    assert list(in_order(checks, 1, ("benchmarks.verify_hostile",))) == ["error"] * 3
    assert marked("no process has this") == []


def test_labels_are_read(tmp_path: Path):
    rows = [
        {"reference": "5", "completion": "#### 5", "label": True},
        {"reference": "5", "answer": "6", "label": False},
        {"question": "?", "ground_truth": "A: 5", "6b": {"is_correct": True, "solution": "A: 5"}},
        {"gold_answer": "5", "llm_response": "6", "gold_judgment": "B"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [(row.reference, row.label, row.bare) for row in read_labels(file)] == [
        ("5", True, False), ("5", False, True), ("5", True, False), ("5", False, False)
    ]  # fmt: skip
    tests = tmp_path / "test_all.py"
    tests.write_text(
        '@pytest.mark.parametrize("gold, pred, expected", [("1", "2", 0), ("$x$", "x", 1)])\ndef f(): 1 / 0'
    )
    assert read_labels(tests) == [
        Judged("1", "2", False, "test_all.py", bare=True), Judged("$x$", "x", True, "test_all.py", bare=True)
    ]  # fmt: skip
    file.write_text('{"other": 1}')
    with pytest.raises(ValueError, match=r"rows\.jsonl:1"):
        read_labels(file)


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("1,234", "integer"),
        (r"\frac{1}{2}", "fraction, decimal"),
        ("(B)", "choice"),
        (r"x^2+1", "expression"),
        ("(1,2)", "list, point, interval"),
        (r"\begin{pmatrix} 1 \end{pmatrix}", "matrix"),
        ("x > 2", "equation, inequality, set"),
        ("the red house", "text"),
    ],
)
def test_kinds_of_references(reference: str, kind: str):
    assert kind_of(reference) == kind


def test_figures_by_hand():
    """Wilson's interval of 0 of 10 ends at z^2 / (10 + z^2) = 0.2775; 100 a second from the fourth of these on."""
    low, high = wilson(0, 10)
    assert (low, round(high, 4)) == (0.0, 0.2775)
    times = [0.0, 1.0, 2.0, 3.0, *(3.0 + float(Fraction(i, 100)) for i in range(1, 5))]
    assert seconds_until_back(times, 99.0, n=4) == 3.0
    assert seconds_until_back(times, 1000.0, n=4) == float("inf")
