r"""Final answers of mathematics: where they stand in a text, and whether two of them are the same.

The answer is what stands after `####` (GSM8K: Cobbe et al. 2021, arXiv:2110.14168), else in the last `\boxed{}` (MATH:
Hendrycks et al. 2021, arXiv:2103.03874), else after "the answer is", else the last number. Two numbers are equal if
they are the same rational: 0.3333 is not 1/3. A percentage stands for either of its readings, 50 % for 50 and for 0.5,
as data sets write both; currency signs are left out of account.

What is no plain number is compared in killable processes, as SymPy may take for ever. Lists, points, intervals, unions
and matrices are compared part by part, so that an open interval is no closed one. A part is read by Math-Verify
(https://github.com/huggingface/Math-Verify). Numbers are then compared exactly or to 40 digits, since it rounds:
1/2004! would be 1/2006!. Formulas are compared by their values at a few points, which no two different ones share but
by a rare accident (Schwartz 1980, doi:10.1145/322217.322225). Equations and all else it compares itself, asked with the
arguments in both orders: its comparison is not symmetric, and where the orders disagree there is no verdict. A unit may
be left out, but where both have one and they are spelled differently there is none either.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from datagen.verify._forms import Form, form, split_equation, split_unit, squeeze, tidy
from datagen.verify.pool import Check, Result

MAX_ANSWER_CHARS = 2000  # what is longer is no answer
_MAX_DIGITS = 4000  # below the bound at which Python refuses to read an integer

_SIGN = "[-+\N{MINUS SIGN}]"
_NEGATIVE = ("-", "\N{MINUS SIGN}")
_SEPARATOR = r",\\!|,|\{,\}|\\,"
_NUMERAL = rf"(?:\d{{1,3}}(?:(?:{_SEPARATOR})\d{{3}})+|\d+)(?:\.\d+)?|\.\d+"
_PLAIN = re.compile(
    rf"(?P<sign>{_SIGN}?)\s*(?:\\?[$£€]\s*)?(?P<inner_sign>{_SIGN}?)"
    rf"(?:(?P<numeral>{_NUMERAL})(?:[eE](?P<exponent>[-+]?\d{{1,3}})|"
    rf"\s*(?:\\times|\\cdot|[*x])\s*10\s*\^\s*(?:(?P<power>[-+]?\d{{1,3}})|\{{\s*(?P<tex_power>[-+]?\d{{1,3}})\s*\}}))?"
    r"|(?:(?P<whole>\d+)\s+)?(?P<over>\d+)\s*/\s*(?P<under>\d+)"
    r"|(?P<tex_whole>\d+)?\s*\\[dt]?frac\s*\{\s*(?P<tex_over>\d+)\s*\}\s*\{\s*(?P<tex_under>\d+)\s*\})"
    r"(?:\s*(?P<percent>\\?%|percent)|\s*\^\\circ|\s+(?P<scale>hundred|thousand|million|billion|dozen))?"
)
_SCALES = {None: 1, "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_LAST_NUMBER = re.compile(rf"(?:(?<![\w)]){_SIGN})?[$£€]?(?:(?:\d+\s+)?\d+/\d+|{_NUMERAL})(?:\s?\\?%)?")
_MARK = re.compile(r"####\s*([^\n]+)")
_BOX_TOKEN = re.compile(r"\\f?boxed\s*\{|\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(
    r"\}(?:[\s$,;]|\\[()\[\],;]|\\quad|\band\b|\bor\b|\\text\s*\{[\s,]*(?:and|or)?\s*\})*\\f?boxed\s*\{"
)
_LISTS = re.compile(r"(?<!\\)[,;]|\band\b|\bor\b")
ANSWER_IS = re.compile(r"\banswer\b[\s*_]*(?:is|:|=)", re.IGNORECASE)
SENTENCE_END = re.compile(r"\n|[.!?](?:\s|$)")
_MATHEMATICAL = re.compile(r"[\d\\$=^]|^\W*[A-Za-z]\W*$")
_BARE_FRACTION = re.compile(r"\\frac\s*(?!\{|\s)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_CHOICE = re.compile(r"\(?(?P<letter>[A-Z])\)?")
_TEXT = re.compile(r"(?:\\(?:text|textbf|mathrm)\s*\{)?\s*(?P<words>[A-Za-z]{2,}(?: [A-Za-z]+)*)\s*\}?")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was taken from a text as its answer, and where it stood."""

    text: str
    rule: str


def find_answer(completion: str) -> Answer | None:
    """The final answer of a completion by the first rule that applies, None where none does."""
    if marked := _marked_answer(completion):
        return marked
    end = len(completion)
    for match in reversed(list(ANSWER_IS.finditer(completion))):
        sentence = SENTENCE_END.split(completion[match.end() : end], maxsplit=1)[0]
        text, end = trim(sentence), match.start()
        if _MATHEMATICAL.search(text):
            return Answer(text, "after 'the answer is'")
    numbers = _LAST_NUMBER.findall(completion)
    return Answer(numbers[-1], "the last number") if numbers else None


def find_reference(reference: str) -> str:
    r"""The answer in a reference: after `####` or in `\boxed{}` where it is a worked solution, else all of it."""
    marked = _marked_answer(reference)
    return marked.text if marked else reference.strip()


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value; of a percentage the number before the sign."""

    value: Fraction
    percent: bool = False

    def equals(self, other: "Number") -> bool:
        """Whether the two are the same number, by either reading of a percentage where only one is."""
        if self.percent == other.percent:
            return self.value == other.value
        percent, plain = (self, other) if self.percent else (other, self)
        return plain.value in (percent.value, percent.value / 100)


def parse_number(text: str) -> Number | None:
    r"""The number that the text plainly is, None if it is something else.

    Plain are integers, decimals, fractions (`3/4`, `\frac{3}{4}`) and mixed numbers (`1 3/4`), with or without a sign,
    thousands separators, a power of ten (`1.5e6`, `1.5 \times 10^6`), a currency sign, a percent sign or a word such as
    million, degrees, TeX delimiters around them.
    """
    if len(text) > _MAX_DIGITS:
        return None
    match = _PLAIN.fullmatch(trim(text)) or _PLAIN.fullmatch(trim(tidy(trim(text))))
    if not match:
        return None
    if match["numeral"]:
        power = int(match["exponent"] or match["power"] or match["tex_power"] or 0)
        value = Fraction(re.sub(_SEPARATOR, "", match["numeral"])) * Fraction(10) ** power
    else:
        over, under = match["over"] or match["tex_over"], match["under"] or match["tex_under"]
        if not int(under):
            return None
        value = int(match["whole"] or match["tex_whole"] or 0) + Fraction(int(over), int(under))
    if (match["sign"] in _NEGATIVE) != (match["inner_sign"] in _NEGATIVE):
        value = -value
    return Number(value * _SCALES[match["scale"]], percent=bool(match["percent"]))


Finding = Literal["equal", "different", "no reading", "orders disagree"]


def compare(reference: str, answer: str) -> Finding:
    """Compare two mathematical texts; may hang, so only to be called in a process that can be killed."""
    (one, one_unit), (other, other_unit) = (split_unit(tidy(text)) for text in (reference, answer))
    if one_unit and other_unit and one_unit != other_unit:
        return "no reading"
    return _compare_tidy(one.strip(), other.strip())


def _compare_tidy(one: str, other: str) -> Finding:
    if found := compare_plain(one, other):
        return found
    (left, value), (other_left, other_value) = split_equation(one), split_equation(other)
    if (left and (left == other_left or "=" not in other)) or (other_left and "=" not in one):
        return _compare_tidy(value, other_value)
    form_one, form_other = form(one), form(other)
    if form_one and form_other and form_one.kind == form_other.kind:
        return _compare_parts(form_one, form_other)
    return _compare_formulas(one, other)


def _compare_parts(one: Form, other: Form) -> Finding:
    """Part by part; where order does not count, each part takes one that equals it and is not taken."""
    if one.marks != other.marks or len(one.parts) != len(other.parts):
        return "different"
    if one.kind in ("ordered", "matrix"):
        return _together([_compare_tidy(a, b) for a, b in zip(one.parts, other.parts, strict=True)])
    left = list(other.parts)
    for part in one.parts:
        found: list[Finding] = [_compare_tidy(part, candidate) for candidate in left]
        if "equal" not in found:
            found.append("different")
            return _together(found)
        del left[found.index("equal")]
    return "equal"


def _together(found: list[Finding]) -> Finding:
    """What the parts say of the whole: one that is different says it all, if all were read."""
    for finding in ("no reading", "orders disagree", "different"):
        if finding in found:
            return finding
    return "equal"


def _compare_formulas(reference: str, answer: str) -> Finding:
    gold, target = _read(reference), _read(answer)
    if not gold or not target:
        return "no reading"
    exact = _same_value(gold[0], target[0])
    if exact is not None:
        return "equal" if exact else "different"
    from math_verify import verify

    forward, backward = (
        verify(a, b, timeout_seconds=None, raise_on_error=True) for a, b in ((gold, target), (target, gold))
    )
    if forward != backward:
        return "orders disagree"
    return "equal" if forward else "different"


def equal(one: str, other: str, timeout_s: float) -> "bool | Check[bool | None]":
    """Whether two answers are the same, or the check that says so; None is its conclusion where there is no finding."""
    if one == other:
        return True
    if found := compare_plain(one, other):
        return found == "equal"
    return Check(function=compare, arguments=(one, other), timeout_s=timeout_s, conclude=_is_equal)


def _is_equal(result: Result) -> bool | None:
    return {"equal": True, "different": False}.get(result.value) if result.status == "done" else None


def compare_plain(reference: str, answer: str) -> Literal["equal", "different"] | None:
    """Compare two numbers, words, choices or spellings of one text; None where it takes more. Units may be left out."""
    if len(reference) > MAX_ANSWER_CHARS or len(answer) > MAX_ANSWER_CHARS:
        return None
    expected, given = parse_number(reference), parse_number(answer)
    if not expected or not given:
        reference, answer = tidy(reference), tidy(answer)
        (reference_value, unit), (answer_value, given_unit) = split_unit(reference), split_unit(answer)
        if not unit or not given_unit or unit == given_unit:
            expected = expected or parse_number(reference_value)
            given = given or parse_number(answer_value)
    if expected and given:
        return "equal" if given.equals(expected) else "different"
    words, given_words = _TEXT.fullmatch(reference), _TEXT.fullmatch(answer)
    if words and given_words:
        return "equal" if given_words["words"].casefold() == words["words"].casefold() else "different"
    choice, given_choice = _CHOICE.fullmatch(reference), _CHOICE.fullmatch(answer)
    if choice and given_choice:
        return "equal" if choice["letter"] == given_choice["letter"] else "different"
    return "equal" if squeeze(reference) == squeeze(answer) else None


def _marked_answer(text: str) -> Answer | None:
    for line in reversed(_MARK.findall(text)):
        answer = trim(line[:MAX_ANSWER_CHARS])
        if answer and (parse_number(split_unit(tidy(answer))[0]) or not _WORD.search(answer)):  # else it is a heading
            return Answer(answer, "after ####")
    boxed = _last_boxes(text)
    answers = list(dict.fromkeys(text[start:end].strip() for start, end in boxed))
    if len(answers) > 1:
        return Answer(", ".join(answers), r"in several \boxed")
    return Answer(answers[0], r"in \boxed") if answers and answers[0] else None


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{}` that is closed, of nested ones the innermost."""
    boxed = _last_boxes(text)
    return text[boxed[-1][0] : boxed[-1][1]].strip() if boxed else None


def _last_boxes(text: str) -> list[tuple[int, int]]:
    r"""Where the content of the last `\boxed{}` is, and of those before it with nothing but `and` or commas between."""
    boxes = sorted(_boxes(text))
    first = len(boxes) - 1
    while first > 0 and boxes[first][0] > boxes[first - 1][1]:
        between = _BETWEEN_BOXES.fullmatch(text, boxes[first - 1][1], boxes[first][0])
        if not between or not _LISTS.search(between[0]):
            break
        first -= 1
    return boxes[max(0, first) :]


def _boxes(text: str) -> list[tuple[int, int]]:
    """Start and end of the content of each box that is closed."""
    boxes = list[tuple[int, int]]()
    open_braces: list[int | None] = []  # where the content of a box starts, None for any other brace
    for token in _BOX_TOKEN.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0].endswith("{") and "box" in token[0]:
            open_braces.append(token.end())
        elif token[0] == "}" and open_braces:
            start = open_braces.pop()
            if start is not None:
                boxes.append((start, token.start()))
    return boxes


def trim(text: str) -> str:
    """The text without blanks, emphasis and the punctuation around it; a leading point may belong to a number."""
    return text.lstrip(" \t*_`:=").rstrip(" \t*_`.,:;")


def _read(text: str) -> list[Any]:
    """Math-Verify's reading, its own timeout off, as the pool has one that holds."""
    from math_verify import parse

    text = text.replace(r"\$", "")
    if _BARE_FRACTION.search(text):  # Math-Verify reads some of these and leaves parts of them out
        return []
    delimited = re.search(r"\$|\\[(\[]", text)
    as_formula = not delimited and ("\\" in text or not _WORD.search(text))
    return parse(f"${text}$" if as_formula else text, parsing_timeout=None, raise_on_error=True)  # pyright: ignore[reportArgumentType]


_POINTS = tuple(Fraction(n, 97) for n in (151, -262, 313, -89, 415))  # where two formulas are compared
_DIGITS = 50


def _same_value(a: Any, b: Any) -> bool | None:
    """Whether two numbers are the same, or two formulas at each of a few points; None where this cannot be told."""
    import sympy

    if not all(isinstance(one, sympy.Expr) and not one.has(sympy.MatrixExpr) for one in (a, b)):
        return None
    x, y = (sympy.nsimplify(one.doit(), rational=True) for one in (a, b))
    if x.is_Rational and y.is_Rational:
        return x == y
    names = sorted({str(symbol) for symbol in x.free_symbols})
    if names != sorted({str(symbol) for symbol in y.free_symbols}):
        return None
    n_same = 0
    for shift in range(len(_POINTS) if names else 1):
        point = {name: _POINTS[(i * i + shift) % len(_POINTS)] + i for i, name in enumerate(names)}
        at_x, at_y = (_value_at(one, point) for one in (x, y))
        if at_x is None or at_y is None:
            continue
        if abs(at_x - at_y) > sympy.Float(10, _DIGITS) ** (10 - _DIGITS) * max(abs(at_x), abs(at_y)):
            return False
        n_same += 1
    return True if n_same >= (3 if names else 1) else None


def _value_at(expression: Any, point: dict[str, Fraction]) -> Any:
    """The complex number that it is there, None where it is none."""
    import sympy

    exact = {symbol: sympy.Rational(*point[str(symbol)].as_integer_ratio()) for symbol in expression.free_symbols}
    value = expression.subs(exact).evalf(_DIGITS)
    parts = value.as_real_imag()
    return value if all(part.is_Number and part.is_finite for part in parts) else None
