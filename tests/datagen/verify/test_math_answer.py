from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify.answers import find_answer, parse_number
from datagen.verify.math_answer import Config, math_answer

# openai/grade-school-math (MIT), train split: the last lines of three official solutions, and their answers
GSM8K = [
    ("Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72", 72),
    ("Working 50 minutes, she earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10", 10),
    ("The house sold for 1,450,000*.9=$<<1450000*.9=1305000>>1,305,000\n#### 1,305,000", 1305000),
]


def judge(rows: Sequence[tuple[str, str | None]], timeout_s: float = 60.0) -> list[Verdict]:
    """Verdicts on (completion, reference) rows, all in one run."""
    traces = [
        Trace(id=str(i), prompt=Prompt(id=f"p{i}", messages=[], reference=reference), completion=completion)
        for i, (completion, reference) in enumerate(rows)
    ]
    verdicts = list(math_answer(Config(timeout_s=timeout_s), traces))
    assert [verdict.id for verdict in verdicts] == [trace.id for trace in traces]
    return verdicts


def statuses(rows: Sequence[tuple[str, str | None]]) -> list[str]:
    return [verdict.status for verdict in judge(rows)]


numbers = st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=999)


@st.composite
def written(draw: st.DrawFn, value: Fraction) -> str:
    """One of the ways in which people write this number."""
    sign, size = "-" * (value < 0), abs(value)
    over, under = size.numerator, size.denominator
    ways = [f"{sign}{over}/{under}", rf"{sign}\frac{{{over}}}{{{under}}}", rf"${sign}\dfrac{{{over}}}{{{under}}}$"]
    if under == 1:
        ways += [f"{sign}{over}", f"{sign}{over:,}", f"{sign}${over:,}.00", f"\\({sign}{over}\\)", f"**{sign}{over}**"]
    elif size > 1:
        ways.append(f"{sign}{over // under} {over % under}/{under}")
    if not 10**6 % under:
        ways.append(f"{sign}{Decimal(over) / Decimal(under):,f}")
    return draw(st.sampled_from(ways))


@st.composite
def answered(draw: st.DrawFn, answer: str) -> str:
    """One of the places in which completions say it."""
    place = draw(
        st.sampled_from(
            ["17 - 3 = 14.\n#### {}", r"So $x$ is \boxed{{{}}}, not 3.", "The answer is 5? No.\nThe answer is: {}."]
        )
    )
    return place.format(answer)


@given(data=st.data(), reference=numbers, other=numbers)
def test_equals_exact_arithmetic(data: st.DataObject, reference: Fraction, other: Fraction):
    """Oracle: fractions. The same number or another one, each written in any way, said in any place."""
    near = reference + data.draw(st.sampled_from([0, 0, 1, Fraction(1, 10**6), Fraction(-1, 7)]))
    given = data.draw(st.sampled_from([near, other]))
    completion = data.draw(written(given).flatmap(answered))
    (status,) = statuses([(completion, data.draw(written(reference)))])
    assert status == ("pass" if given == reference else "fail")


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str):
    """Parsing stands outside the pool, so it may not raise; what it takes for a number is an exact one."""
    find_answer(text)
    number = parse_number(text)
    assert number is None or isinstance(number.value, Fraction)


def test_official_answers_pass_and_no_others():
    """GSM8K's own solutions, against their answers and against their answers plus one."""
    rows: list[tuple[str, str | None]] = [(solution, str(answer)) for solution, answer in GSM8K]
    assert statuses(rows) == ["pass"] * 3
    assert statuses([(solution, solution) for solution, _ in GSM8K]) == ["pass"] * 3
    assert statuses([(solution, str(answer + 1)) for solution, answer in GSM8K]) == ["fail"] * 3


@pytest.mark.parametrize(
    ("completion", "answer", "rule"),
    [
        ("The answer is 4.\n\\boxed{5}\n#### 6\nI counted 7.", "6", "after ####"),
        ("The answer is 4.\n\\boxed{5} and not 7.", "5", r"in \boxed"),
        (r"\boxed{1} \boxed{\frac{1}{2}} \boxed{3", r"\frac{1}{2}", r"in \boxed"),
        ("The answer is 3. No, the answer is 4 apples. I have 7 pears.", "4 apples", "after 'the answer is'"),
        ("**Answer:** $1,200.50", "$1,200.50", "after 'the answer is'"),
        ("The answer is clear: 2 + 3 = 5.", "2 + 3 = 5", "after 'the answer is'"),
        ("The answer is easy to see.\nThere are 12 of 1,500.", "1,500", "the last number"),
        ("#### Step 2: add\nThat makes 10-3.", "3", "the last number"),
        ("It sank by -3", "-3", "the last number"),
    ],
)
def test_rules_apply_in_order(completion: str, answer: str, rule: str):
    """Read by hand."""
    found = find_answer(completion)
    assert found
    if rule == "after 'the answer is'" and "clear" in completion:
        assert found.text.endswith(answer)
    else:
        assert found.text == answer
    assert found.rule == rule


def test_beyond_plain_numbers():
    """Mathematics that is known; most of it passes through Math-Verify in the pool."""
    expected = {
        (r"\boxed{x^2+2x+1}", "(x+1)^2"): "pass",
        (r"\boxed{x^2+2x+2}", "(x+1)^2"): "fail",
        (r"\boxed{\sqrt{8}}", r"2\sqrt{2}"): "pass",
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}"): "pass",
        (r"\boxed{\text{Even}}", "even"): "pass",
        (r"\boxed{\text{odd}}", "even"): "fail",
        ("So the answer is x = 5.", "5"): "pass",
        ("The answer is (B).", "B"): "pass",
        ("The answer is (B).", "C"): "fail",
        (r"\boxed{\frac{1}{2004!}}", r"\frac{1}{2006!}"): "fail",
        (r"\boxed{\frac{1}{2004!}}", r"\frac{2}{2 \cdot 2004!}"): "pass",
        (r"\boxed{10^{50}}", "1" + "0" * 50): "pass",
        (r"\boxed{10^{50}+1}", "1" + "0" * 50): "fail",
        ("#### 123456789012345678901", "123456789012345678902"): "fail",
        ("The answer is 0.333333.", r"\frac{1}{3}"): "fail",
        ("The answer is 50%.", "50"): "pass",
        ("The answer is 0.5.", "50%"): "pass",
        ("The answer is 1%.", "100%"): "fail",
        ("It costs 5 million dollars.\nThe answer is 5 million dollars.", "5,000,000"): "pass",
        (r"\boxed{\$15,\!000}", "15000"): "pass",
        (r"\boxed{\$15,\!000}", r"\sqrt{2}"): "fail",
        (r"\boxed{(1, 2)}", "1 < x < 2"): "unparsed",  # Math-Verify says yes in one order, no in the other
        ("I do not know.", "5"): "unparsed",
        ("", "5"): "unparsed",
    }
    found = dict(zip(expected, statuses(list(expected)), strict=True))
    assert found == expected


def test_error_timeout_and_fail_are_kept_apart():
    """9 ** 9 ** 9 ** 9 cannot be written out; a row without a reference cannot be judged."""
    no_reference, hanging, wrong, none = judge(
        [("#### 5", None), (r"\boxed{9^{9^{9^{9}}}}", r"9^{9^9}"), ("#### 5", "6"), ("none", "6")], timeout_s=1
    )
    assert (no_reference.status, no_reference.reason) == ("error", "no_reference")
    assert "no reference" in (no_reference.detail or "")
    assert (hanging.status, hanging.reason, hanging.answer) == ("timeout", "timeout", "9^{9^{9^{9}}}")
    assert (wrong.status, wrong.reason, wrong.detail) == ("fail", "wrong_answer", "after ####: 5, not 6")
    assert (none.status, none.reason, none.answer) == ("unparsed", "no_answer", None)


@pytest.mark.parametrize(
    "text", ["answer is " * 20_000, r"\boxed{" * 20_000, "#### 5" + " " * 100_000 + "!", "1," * 50_000, "5" * 50_000]
)
def test_long_texts_take_linear_time(text: str):
    """A quadratic scan of these would take minutes; the limit is the test's own patience."""
    (verdict,) = judge([(text, "7")])
    assert verdict.status != "pass"
