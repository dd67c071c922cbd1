r"""Pairs of answers that are known to be the same or not, for `benchmarks.verify`.

`number_pairs` writes rational numbers in the ways of GSM8K's answers: what a text stands for is known since it was
written from a fraction. `rewritten` changes the text of a reference of MATH, in a way that keeps its meaning or in one
that changes it, by rules of spelling and arithmetic of this file alone.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

_EXACT = Context(prec=2000)
UNITS = ("apples", "cm", "square feet", "miles per hour", "dollars", "km/h", r"\text{ cm}", r"\text{ cm}^2")
PLACES = ("She has 3 + 4 = <<3+4=7>>7 left.\n#### {}", r"So the result is \boxed{{{}}}.", "The answer is: {}.")


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference, an answer, whether they are the same, and how the answer was made."""

    reference: str
    answer: str
    same: bool
    how: str


@dataclass(frozen=True, slots=True)
class _Written:
    text: str
    percent: Fraction | None = None  # the number before the sign


def number_pairs(n: int, generator: random.Random) -> Iterator[Pair]:
    """`n` pairs, about half of them the same."""
    for _ in range(n):
        value, unit = _value(generator), generator.choice([*UNITS, *[""] * 24])
        other = value if generator.random() < 0.5 else _near(value, generator)
        reference, answer = _write(value, unit, generator), _write(other, unit, generator)
        yield Pair(reference.text, answer.text, _same(value, reference, other, answer), "number")


def _same(value: Fraction, reference: _Written, other: Fraction, answer: _Written) -> bool:
    """Of a percentage beside a plain number both readings count: 50 % is 50 and 0.5."""
    if (reference.percent is None) == (answer.percent is None):
        return value == other
    if reference.percent is not None:
        return other in (reference.percent, value)
    return value in (answer.percent, other)


def _value(generator: random.Random) -> Fraction:
    sign = generator.choice((1, 1, 1, -1))
    kind = generator.randrange(6)
    if kind == 0:
        return sign * Fraction(generator.randrange(10))
    if kind == 1:
        return sign * Fraction(generator.randrange(10**6))
    if kind == 2:
        return sign * Fraction(generator.randrange(10**5), 10 ** generator.randrange(5))
    if kind == 3:
        return sign * Fraction(generator.randrange(1, 200), generator.randrange(1, 60))
    if kind == 4:
        return sign * Fraction(generator.randrange(10 ** generator.randrange(15, 300)))
    return sign * Fraction(generator.randrange(1, 1000) * 10 ** generator.randrange(3, 12))


def _near(value: Fraction, generator: random.Random) -> Fraction:
    changes: list[Callable[[Fraction], Fraction]] = [
        lambda v: v + 1,
        lambda v: -v,
        lambda v: 10 * v,
        lambda v: v / 100,
        lambda v: v + Fraction(1, 10 ** generator.randrange(1, 12)),
        lambda v: 1 / v if v else Fraction(1),
        lambda v: v + Fraction(1, 7),
        lambda _: _value(generator),
    ]
    return generator.choice(changes)(value)


def _write(value: Fraction, unit: str, generator: random.Random) -> _Written:
    sign, size = (
        generator.choice(("-", "-", "\N{MINUS SIGN}")) if value < 0 else generator.choice(("", "", "", "+")),
        abs(value),
    )
    over, under = size.numerator, size.denominator
    factor = generator.choice((1, 1, 2, 6))
    frac = generator.choice((r"\frac", r"\dfrac", r"\tfrac"))
    ways = [
        f"{sign}{over * factor}/{under * factor}",
        rf"{sign}{frac}{{{over * factor}}}{{{under * factor}}}",
    ]
    if under > 1 and size > 1:
        ways += [
            f"{sign}{over // under} {over % under}/{under}",
            rf"{sign}{over // under}{frac}{{{over % under}}}{{{under}}}",
        ]
    percent = None
    if under > 1 and over < 10 and under < 10:
        ways.append(rf"{sign}\frac{over}{under}")
    if _terminates(under):
        decimal = _EXACT.divide(Decimal(over), Decimal(under))
        plain = f"{decimal:f}"
        zeros = "0" * generator.randrange(3)
        padded = plain + (zeros if "." in plain else f".{zeros}" if zeros else "")
        mantissa, exponent = f"{decimal:e}".split("e") if decimal else ("0", "0")
        power = int(exponent)
        ways = [
            *ways,
            f"{sign}{plain}",
            f"{sign}{padded}",
            f"{sign}{decimal:,f}",
            f"{sign}{decimal:,f}",
            f"{sign}{decimal:,f}".replace(",", "{,}"),
            rf"${sign}{plain}$",
            rf"\({sign}{plain}\)",
            f"**{sign}{plain}**",
        ]
        if abs(power) < 300:
            ways += [
                f"{sign}{mantissa}e{power}",
                rf"{sign}{mantissa} \times 10^{{{power}}}",
                f"{sign}{mantissa} \N{MULTIPLICATION SIGN} 10^{power}",
            ]
        if not unit:
            ways += [f"{sign}${decimal:,f}", rf"{sign}\${plain}", f"{sign}€{plain}", f"${sign}{plain}"]
            if plain.startswith("0.") and len(plain) > 2:
                ways.append(f"{sign}{plain[1:]}")
            if size and size >= 10**6 and over % 10**5 == 0 and under == 1:
                ways.append(f"{sign}{_EXACT.divide(Decimal(over), Decimal(10**6)):f} million")
            hundredfold = f"{_EXACT.multiply(decimal, Decimal(100)):f}"
            percents = [f"{sign}{hundredfold}%", rf"{sign}{hundredfold}\%", f"{sign}{hundredfold} percent"]
            chosen = generator.choice([*ways, *percents])
            if chosen in percents:
                percent = 100 * value
            return _Written(chosen, percent)
    chosen = generator.choice(ways)
    if unit and generator.random() < 0.7 and not chosen.startswith(("$", r"\(", "*")):
        chosen = f"{chosen}{unit}" if unit.startswith("\\") else f"{chosen} {unit}"
    return _Written(chosen, percent)


def _terminates(under: int) -> bool:
    for prime in (2, 5):
        while under % prime == 0:
            under //= prime
    return under == 1


def rewritten(reference: str, n_same: int, n_wrong: int, generator: random.Random) -> Iterator[Pair]:
    """At most `n_same` spellings of one of MATH's references, and at most `n_wrong` other answers."""
    for rules, n, same in ((SAME, n_same, True), (WRONG, n_wrong, False)):
        found = {text: name for name, rule in rules.items() for text in rule(reference) if text and text != reference}
        for text in generator.sample(sorted(found), min(n, len(found))):
            yield Pair(reference, text, same, found[text])


_INTEGER = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"(-?)(\d*)\.(\d+)")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_ROOT = re.compile(r"(-?)(\d+)\s*\\sqrt\{(\d+)\}")
_PI = re.compile(r"(-?\d+)\s*\\pi")
_SUM = re.compile(r"(-?\d+)\s*\+\s*(\d*\s*\\sqrt\{?\d+\}?|\d+i|\d+\\pi)")
_UNIT = re.compile(r"(-?[\d.,/]+)\\?,?\s*\\(?:text|mbox)\{\s*([A-Za-z ]+)\}(\^\{?\d\}?)?")
_DEGREES = re.compile(r"(-?[\d.]+)\s*\^\s*\{?\\circ\}?")
_WORDS = re.compile(r"\\(text|mbox|textbf)\{([A-Za-z]+|\([A-Z]\))\}")
_MIXED = ("begin", "text", "mbox")


def _parts(text: str) -> list[str]:
    """The parts of a list at commas outside brackets, none where the text is no list."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    is_number = re.fullmatch(r"-?\d{1,3}(,\\?!?\d{3})+", text.replace(" ", ""))
    return [] if is_number or len(parts) < 2 or not all(parts) or any(word in text for word in _MIXED) else parts


def _inside(text: str, brackets: str) -> str | None:
    r"""What stands in `\{...\}` or `(...)` that are around all of the text."""
    opening, closing = brackets[: len(brackets) // 2], brackets[len(brackets) // 2 :]
    inner = text.removeprefix(opening).removesuffix(closing)
    whole = text.startswith(opening) and text.endswith(closing) and "\\cup" not in text
    return inner if whole and opening not in inner and "begin" not in text else None


def _one_expression(text: str) -> bool:
    return not re.search(r"[,=<>:]|\\(text|mbox|begin|cup|in\b|le|ge|pm|infty|circ|\{|%|\$)|\d_|[\[\]]", text)


def _as_fraction(text: str) -> Fraction | None:
    if _INTEGER.fullmatch(text):
        return Fraction(int(text))
    if match := _DECIMAL.fullmatch(text):
        return Fraction(text)
    match = _FRACTION.fullmatch(text)
    return Fraction(int(match[1] + match[2]), int(match[3])) if match and int(match[3]) else None


def _decimals(text: str) -> Iterator[str]:
    value = _as_fraction(text)
    if value is None:
        return
    sign, size = "-" * (value < 0), abs(value)
    over, under = size.numerator, size.denominator
    yield rf"{sign}\frac{{{2 * over}}}{{{2 * under}}}"
    yield f"{sign}{over}/{under}"
    if _terminates(under):
        yield f"{sign}{_EXACT.divide(Decimal(over), Decimal(under)):f}" + ".0" * (under == 1)
    if size > 1 and under > 1:
        yield rf"{sign}{over // under}\frac{{{over % under}}}{{{under}}}"


def _each(pattern: re.Pattern[str], make: Callable[[re.Match[str]], list[str]]) -> Callable[[str], Iterator[str]]:
    return lambda text: iter(make(match) if (match := pattern.fullmatch(text)) else [])


def _bracketed(text: str) -> bool:
    """Whether round and square brackets of the text are in pairs, none of them already marked."""
    return (
        "\\left" not in text
        and "\\right" not in text
        and text.count("(") + text.count("[") == text.count(")") + text.count("]")
    )


def _reordered(text: str) -> Iterator[str]:
    inner = _inside(text, r"\{\}")
    parts = _parts(text if inner is None else inner)
    if parts:
        turned = ", ".join(reversed(parts))
        yield turned if inner is None else rf"\{{{turned}\}}"
        if inner is None:
            yield rf"\{{{turned}\}}"


SAME: dict[str, Callable[[str], Iterator[str]]] = {
    "frac as dfrac": lambda text: iter(
        [re.sub(r"\\[dt]?frac(?![a-z])", r"\\dfrac", text), re.sub(r"\\[dt]?frac(?![a-z])", r"\\tfrac", text)]
    ),
    "spaces": lambda text: iter(
        [
            text.replace(",", ", ").replace("+", " + ")
            if _parts(text) or ("\\!" not in text and not re.search(r"\d,\d{3}", text))
            else text,
            f" {text} ",
        ]
    ),
    "left and right": lambda text: iter(
        [re.sub(r"(?<!\\)([(\[])", r"\\left\1", re.sub(r"(?<!\\)([)\]])", r"\\right\1", text))]
        if _bracketed(text)
        else [re.sub(r"\\(left|right)(?=[()\[\] .])", "", text)]
    ),
    "delimiters": lambda text: iter([f"${text}$", rf"\({text}\)", f"{text}."]),
    "a name": lambda text: iter(
        [f"x = {text}"] if _one_expression(text) and "x" not in text and re.search(r"\d", text) else []
    ),
    "no unit": _each(
        _UNIT,
        lambda m: [
            m[1],
            f"{m[1]}\\text{{ {m[2].strip()}}}{m[3] or ''}",
            f"{m[1]}\\,\\mathrm{{{m[2].strip()}}}{m[3] or ''}",
        ],
    ),
    "degrees": _each(
        _DEGREES,
        lambda m: [
            m[1],
            f"{m[1]} degrees",
            rf"{m[1]}^{{\circ}}",
            f"{m[1]}\N{DEGREE SIGN}",
            rf"{m[1]}\text{{ degrees}}",
        ],
    ),
    "order of a list": _reordered,
    "order of a union": lambda text: iter(
        [r" \cup ".join(reversed(text.split("\\cup")))]
        if "\\cup" in text and "=" not in text and "\\in" not in text.replace("\\infty", "")
        else []
    ),
    "decimal and fraction": _decimals,
    "root": _each(
        _ROOT,
        lambda m: [
            rf"{m[1]}{m[2]} \cdot \sqrt{{{m[3]}}}",
            rf"{m[1]}\sqrt{{{int(m[2]) ** 2 * int(m[3])}}}",
            rf"{m[1]}{m[2]}\sqrt {m[3]}" if len(m[3]) == 1 else "",
        ],
    ),
    "pi": _each(_PI, lambda m: [rf"{m[1]} \cdot \pi", f"{m[1]}\N{GREEK SMALL LETTER PI}", rf"{m[1]}{{\pi}}"]),
    "order of a sum": _each(_SUM, lambda m: [f"{m[2]}+{m[1]}" if not m[1].startswith("-") else f"{m[2]}{m[1]}"]),
    "brackets of a matrix": lambda text: iter([text.replace("pmatrix", "bmatrix")] if "pmatrix" in text else []),
    "words": _each(
        _WORDS, lambda m: [m[2], rf"\text{{{m[2]}}}", rf"\textbf{{{m[2]}}}", m[2].strip("()"), rf"\mathrm{{{m[2]}}}"]
    ),
}


def _more(text: str) -> Iterator[str]:
    """One number is one more; not where that may leave the value: beside a zero, in a power, a base or an index."""
    if re.search(r"(?<!\d)0(?!\d)|\^|_|\\(text|mbox)\{[^}]*\d", text.replace("^\\circ", "")) and not _as_fraction(text):
        return
    for match in re.finditer(r"(?<![\d.,!])\d+(?![\d.,]*[.,\d!])", text):
        yield f"{text[: match.start()]}{int(match[0]) + 1}{text[match.end() :]}"


def _sign(text: str) -> Iterator[str]:
    if (
        _one_expression(text)
        and re.search(r"[1-9]|\\pi|[a-z]", text)
        and not re.fullmatch(r"\(?[A-Za-z]\)?|[A-Za-z ]+", text)
    ):
        yield text[1:] if text.startswith("-") else f"-{text}"


def _swapped(text: str) -> Iterator[str]:
    match = _FRACTION.fullmatch(text)
    if match and match[2] != match[3] and int(match[2]):
        yield rf"{match[1]}\frac{{{match[3]}}}{{{match[2]}}}"


def _fewer(text: str) -> Iterator[str]:
    inner = _inside(text, r"\{\}")
    if parts := _parts(text if inner is None else inner):
        for left in (parts[1:], parts[:-1]):
            yield ", ".join(left) if inner is None else rf"\{{{', '.join(left)}\}}"
    elif (inner := _inside(text, "()")) and len(parts := _parts(inner)) > 2:
        yield f"({', '.join(parts[:-1])})"


def _other_ends(text: str) -> Iterator[str]:
    """An interval with one end open instead of closed, or closed instead of open; infinite ends stay."""
    if (
        "\\infty" not in text and "\\cup" not in text and not re.match(r"(\\left)?\s*\[|.*\]$", text)
    ) or "matrix" in text:
        return
    for match in re.finditer(r"[\[\](]|(?<!\\right)\)|(?<=\\right)\)", text):
        before, after = text[: match.start()], text[match.end() :]
        end = after.split(",")[0] if match[0] in "([" else before.split(",")[-1]
        if "infty" not in end and "," in text:
            yield f"{before}{dict(zip('[](' + ')', '()[' + ']', strict=True))[match[0]]}{after}"


WRONG: dict[str, Callable[[str], Iterator[str]]] = {
    "a number changed": _more,
    "sign": _sign,
    "numerator and denominator": _swapped,
    "an element missing": _fewer,
    "open and closed": _other_ends,
    "another word": _each(
        _WORDS,
        lambda m: [
            rf"\text{{{'(C)' if 'B' in m[2] else '(B)'}}}" if "(" in m[2] or len(m[2]) == 1 else r"\text{neither}"
        ],
    ),
}
