r"""Final answers of mathematics: where they stand in a text, and whether two of them are the same.

The answer is what stands after `####` (GSM8K: Cobbe et al. 2021, arXiv:2110.14168), else in the last `\boxed{}` (MATH:
Hendrycks et al. 2021, arXiv:2103.03874), else after "the answer is", else the last number. Two numbers are equal if
they are the same rational: 0.3333 is not 1/3. A percentage stands for either of its readings, 50 % for 50 and for 0.5,
as data sets write both; currency signs are left out of account.

What is no plain number goes to Math-Verify (https://github.com/huggingface/Math-Verify), in killable processes, as
SymPy may take for ever. It is asked with the arguments in both orders: its comparison is not symmetric, and where the
orders disagree there is no verdict. Rational results are compared exactly here, as it rounds: 1/2004! would be 1/2006!.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from datagen.verify.pool import Check, Result

MAX_ANSWER_CHARS = 2000  # what is longer is no answer
_MAX_DIGITS = 4000  # below the bound at which Python refuses to read an integer

_SIGN = "[-+\N{MINUS SIGN}]"
_NEGATIVE = ("-", "\N{MINUS SIGN}")
_SEPARATOR = r",\\!|,|\{,\}|\\,"
_NUMERAL = rf"(?:\d{{1,3}}(?:(?:{_SEPARATOR})\d{{3}})+|\d+)(?:\.\d+)?|\.\d+"
_PLAIN = re.compile(
    rf"(?P<sign>{_SIGN}?)\s*(?:\\?[$£€]\s*)?(?P<inner_sign>{_SIGN}?)"
    rf"(?:(?P<numeral>{_NUMERAL})"
    r"|(?:(?P<whole>\d+)\s+)?(?P<over>\d+)\s*/\s*(?P<under>\d+)"
    r"|(?P<tex_whole>\d+)?\s*\\[dt]?frac\s*\{\s*(?P<tex_over>\d+)\s*\}\s*\{\s*(?P<tex_under>\d+)\s*\})"
    r"(?:\s*(?P<percent>\\?%|percent)|\s+(?P<scale>hundred|thousand|million|billion|dozen))?"
)
_SCALES = {None: 1, "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_UNIT = re.compile(rf"\s+(?!(?:percent|pi|{'|'.join(filter(None, _SCALES))})$)[A-Za-z]{{2,}}$")
_LAST_NUMBER = re.compile(rf"(?:(?<![\w)]){_SIGN})?[$£€]?(?:(?:\d+\s+)?\d+/\d+|{_NUMERAL})(?:\s?\\?%)?")
_MARK = re.compile(r"####\s*([^\n]+)")
_BOX_TOKEN = re.compile(r"\\f?boxed\s*\{|\\.|[{}]", re.DOTALL)
ANSWER_IS = re.compile(r"\banswer\b[\s*_]*(?:is|:|=)", re.IGNORECASE)
SENTENCE_END = re.compile(r"\n|[.!?](?:\s|$)")
_MATHEMATICAL = re.compile(r"[\d\\$=^]|^\W*[A-Za-z]\W*$")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_TEXT = re.compile(r"(?:\\(?:text|textbf|mathrm)\s*\{)?\s*(?P<words>[A-Za-z]{2,}(?: [A-Za-z]+)*)\s*\}?")
_TEX_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


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
    thousands separators, a currency sign, a percent sign or a word such as million, TeX delimiters around them.
    """
    text = trim(text)
    for opening, closing in _TEX_DELIMITERS:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = text.removeprefix(opening).removesuffix(closing).strip()
    match = _PLAIN.fullmatch(text) if len(text) <= _MAX_DIGITS else None
    if not match:
        return None
    if match["numeral"]:
        value = Fraction(re.sub(_SEPARATOR, "", match["numeral"]))
    else:
        over, under = match["over"] or match["tex_over"], match["under"] or match["tex_under"]
        if not int(under):
            return None
        value = int(match["whole"] or match["tex_whole"] or 0) + Fraction(int(over), int(under))
    if (match["sign"] in _NEGATIVE) != (match["inner_sign"] in _NEGATIVE):
        value = -value
    return Number(value * _SCALES[match["scale"]], percent=bool(match["percent"]))


def compare(reference: str, answer: str) -> Literal["equal", "different", "no reading", "orders disagree"]:
    """Compare two mathematical texts by Math-Verify; may hang, so only to be called in a process that can be killed."""
    gold, target = _read(reference), _read(answer)
    if not gold or not target:
        return "no reading"
    exact = _exactly_equal(gold[0], target[0])
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
    if found := compare_plain(_UNIT.sub("", one), other):
        return found == "equal"
    return Check(function=compare, arguments=(one, other), timeout_s=timeout_s, conclude=_is_equal)


def _is_equal(result: Result) -> bool | None:
    return {"equal": True, "different": False}.get(result.value) if result.status == "done" else None


def compare_plain(reference: str, answer: str) -> Literal["equal", "different"] | None:
    """Compare two numbers or two words; None where either is something else. A word after the answer is its unit."""
    expected, given = parse_number(reference), parse_number(_UNIT.sub("", answer))
    if expected and given:
        return "equal" if given.equals(expected) else "different"
    words, given_words = _TEXT.fullmatch(reference), _TEXT.fullmatch(answer)
    if words and given_words:
        return "equal" if given_words["words"].casefold() == words["words"].casefold() else "different"
    return None


def _marked_answer(text: str) -> Answer | None:
    for line in reversed(_MARK.findall(text)):
        answer = trim(line[:MAX_ANSWER_CHARS])
        if answer and (parse_number(_UNIT.sub("", answer)) or not _WORD.search(answer)):  # else it is a heading
            return Answer(answer, "after ####")
    boxed = last_boxed(text)
    return Answer(boxed, r"in \boxed") if boxed else None


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{}` that is closed, of nested ones the innermost."""
    last, content = -1, None
    open_braces: list[int | None] = []  # where the content of a box starts, None for any other brace
    for token in _BOX_TOKEN.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0].endswith("{") and "box" in token[0]:
            open_braces.append(token.end())
        elif token[0] == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and start > last:
                last, content = start, text[start : token.start()].strip()
    return content


def trim(text: str) -> str:
    """The text without blanks, emphasis and the punctuation around it; a leading point may belong to a number."""
    return text.lstrip(" \t*_`:=").rstrip(" \t*_`.,:;")


def _read(text: str) -> list[Any]:
    """Math-Verify's reading, its own timeout off, as the pool has one that holds."""
    from math_verify import parse

    text = text.replace(r"\$", "")
    delimited = re.search(r"\$|\\[(\[]", text)
    as_formula = not delimited and ("\\" in text or not _WORD.search(text))
    return parse(f"${text}$" if as_formula else text, parsing_timeout=None, raise_on_error=True)  # pyright: ignore[reportArgumentType]


def _exactly_equal(a: Any, b: Any) -> bool | None:
    """Whether two rational numbers are the same; None where they are no rational numbers."""
    import sympy

    if not all(isinstance(one, sympy.Expr) and one.is_number for one in (a, b)):
        return None
    x, y = (sympy.nsimplify(one.doit(), rational=True) for one in (a, b))
    return x == y if x.is_Rational and y.is_Rational else None
