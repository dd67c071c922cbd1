from fractions import Fraction

import pytest

from datagen.verify import _forms
from datagen.verify.answers import compare, compare_plain, find_answer, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5e6", Fraction(1500000)),
        (r"1.5 \times 10^{-3}", Fraction(3, 2000)),
        ("-2 \N{MULTIPLICATION SIGN} 10^3", Fraction(-2000)),
        (r"\frac12", Fraction(1, 2)),
        (r"-\dfrac{3}4", Fraction(-3, 4)),
        (r"\frac{-3}{4}", Fraction(-3, 4)),
        (r"3\tfrac12", Fraction(7, 2)),
        (r"11,\! 111", Fraction(11111)),
        (r"\left(5\right)", None),
        ("\N{MINUS SIGN}5", Fraction(-5)),
        (r"45^{\circ}", Fraction(45)),
        ("1e99999999", None),
        ("9" * 5000, None),
        (r"\frac{1}{0}", None),
    ],
)
def test_what_is_plainly_a_number(text: str, value: Fraction | None):
    """Read by hand; what cannot be written out in the digits that are allowed is none."""
    number = parse_number(text)
    assert (number.value if number else None) == value


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (r"5\text{ cm}^2", "5", "equal"),
        (r"144 \mbox{ m}^3", "144", "equal"),
        (r"5\text{ cm}", "5 cm", "equal"),
        (r"5\text{ cm}", "6 cm", "different"),
        ("5 km", "5 m", None),
        ("5 miles per hour", "5", "equal"),
        ("5 or six", "5", None),
        (r"90^\circ", "90 degrees", "equal"),
        (r"\text{(E)}", "E", "equal"),
        (r"\text{(E)}", "D", "different"),
        (r"\mbox{Saturday}", r"\text{saturday}", "equal"),
        (r"\left( \frac12, 3 \right)", r"(\dfrac{1}{2},3)", "equal"),
    ],
)
def test_plain_comparisons(one: str, other: str, found: str | None):
    """Read by hand, both ways round; two units that differ are no finding."""
    assert compare_plain(one, other) == found
    assert compare_plain(other, one) == found


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("[0, 1)", "(0, 1)", "different"),
        ("[0, 1)", r"\left[0,1\right)", "equal"),
        ("(1, 2)", "(2, 1)", "different"),
        ("1, 2, 3", r"\{3, 1, 2\}", "equal"),
        ("1, 2, 3", "1, 2", "different"),
        ("1, 1, 2", "1, 2, 2", "different"),
        ("1, -1, -3i", "-3i, 1, -1", "equal"),
        (r"3 \pm 2\sqrt{2}", r"3 - 2\sqrt{2}, 3 + \sqrt{8}", "equal"),
        (r"3 \pm 2\sqrt{2}", r"3 + 2\sqrt{2}", "different"),
        (r"(-\infty, 2) \cup [3, \infty)", r"[3, \infty) \cup (-\infty, 2)", "equal"),
        (r"(-\infty, 2) \cup [3, \infty)", r"(3, \infty) \cup (-\infty, 2)", "different"),
        (r"\begin{pmatrix} 1/2 \\ -3 \end{pmatrix}", r"\begin{bmatrix} 0.5 \\ -3 \end{bmatrix}", "equal"),
        (r"\begin{pmatrix} 1 \\ -3 \end{pmatrix}", r"\begin{pmatrix} 1 & -3 \end{pmatrix}", "different"),
        ("x = 1 or x = 2", "x = 2, x = 1", "equal"),
        (r"x \in [1, 2]", "[1, 2]", "equal"),
        ("x = 5", "y = 5", "different"),
        (r"\sqrt{2}", "1.414214", "different"),
        (r"\sqrt{3 + 2\sqrt{2}}", r"1 + \sqrt{2}", "equal"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}", "different"),
        (r"(x+1)^3", "x^3 + 3x^2 + 3x + 1", "equal"),
        (r"(x+1)^3", "x^3 + 3x^2 + 3x + 2", "different"),
        (r"\sqrt{x^2}", "x", "different"),
        (r"\frac \pi4", r"\frac{\pi}{4}", "equal"),
        (r"\frac \pi4 + 2", r"\frac \pi5 + 2", "different"),
        (r"\frac ab", r"\frac{a}{b}", "no reading"),
        (r"5\text{ km}", r"5\text{ m}", "no reading"),
    ],
)
def test_comparisons_part_by_part(one: str, other: str, found: str):
    """Mathematics that is known; none of it may hang, so no pool is needed. Both ways round."""
    assert compare(one, other) == found
    assert compare(other, one) == found


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"So \boxed{2} and \boxed{3}.", "2, 3"),
        (r"\[ \boxed{-2} \quad \text{and} \quad \boxed{1}. \]", "-2, 1"),
        (r"First \boxed{2}, then we see that \boxed{3}.", "3"),
        (r"\boxed{5}, \boxed{5}", "5"),
        (r"\boxed{\boxed{7}}", "7"),
    ],
)
def test_boxes_that_are_listed_are_one_answer(completion: str, answer: str):
    """Read by hand."""
    found = find_answer(completion)
    assert found
    assert found.text == answer


@pytest.mark.parametrize(
    "text", [r"(1, 2", "1, 2)", r"\{1, 2", "(,)", ",", r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}"]
)
def test_brackets_that_do_not_match_are_no_structure(text: str):
    assert _forms.form(text) is None


def test_blanks_between_digits_are_kept():
    """1 1/2 is no 11/2."""
    assert _forms.squeeze("1 1/2 + x") == "1 1/2+x"
    assert _forms.tidy(r"$\dfrac12\,\text{ cm}.$") == r"\frac{1}{2} \text{ cm}"
