r"""The forms in which one mathematical answer is written: spelling of TeX, units, brackets, lists, unions, matrices.

`tidy` gives two spellings of one formula the same text. `Form` is the outermost structure of a text: what its parts are
and whether their order counts. What the parts mean is not known here.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_SIGNS = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " "})
_SPELLINGS = [
    (re.compile(pattern), meant)
    for pattern, meant in (
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?![A-Za-z])\s*\.?", ""),
        (r",\s*\\!\s*", ","),
        (r"\\!", ""),
        (r"\\(?:[,;: ]|q?quad(?![A-Za-z]))|~", " "),
        (r"\\(?:mbox|textbf|textrm|textit|mathrm|mathbf|rm)\s*\{", r"\\text{"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\{,\}", ","),
        (r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z}]))", ","),
        ("\N{MULTIPLICATION SIGN}", r"\\times "),
        ("\N{GREEK SMALL LETTER PI}", r"\\pi "),
        ("\N{INFINITY}", r"\\infty "),
        ("\N{UNION}", r"\\cup "),
        ("\N{SQUARE ROOT}", r"\\sqrt "),
        (r"\N{DEGREE SIGN}|\^\s*\{\s*\\circ\s*\}|\s+degrees?\b|\s*\\text\s*\{\s*degrees?\s*\}", r"^\\circ"),
        (r"\\frac\s*(\\pi)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"\\frac\s*\{\s*-\s*([^-+{}]*)\}", r"-\\frac{\1}"),
        (r"\\(begin|end)\s*\{[bB]matrix\}", r"\\\1{pmatrix}"),
    )
]
_WORDED = re.compile(r"\\text\s*\{\s*(\d[^{}]*?)\s*\}|^\\text\s*\{\s*(\(?[A-Za-z]\)?)\s*\}$")
_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_NOT_A_UNIT = (
    "percent pi hundred thousand million billion dozen or and to through plus minus times over mod if when for with is "
    "not in of sin cos tan log ln sqrt exp i e"
).replace(" ", "|")
_WORD = r"[A-Za-z]{2,}(?:\^\s*(?:\d|\{\d\}))?"
_UNIT = re.compile(
    r"\s*\\text\s*\{(?P<text>[^{}0-9]*)\}(?P<power>\s*\^\s*(?:\d|\{\d\}))?$"
    rf"|\s+(?P<words>(?!(?:{_NOT_A_UNIT})\b){_WORD}(?:(?:\s+|\s*/\s*)[A-Za-z]+(?:\^(?:\d|\{{\d\}}))?)*)$"
    r"|(?<=[\d}])\s*(?P<degrees>\^\\circ)$"
)
_EQUATION = re.compile(
    r"(?P<left>\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?|[A-Za-z]\([A-Za-z]\))\s*(?:=|\\in(?![A-Za-z]))\s*(?P<right>[^=<>]+)"
)
_OPENING, _CLOSING = "([{", ")]}"
_MATRIX = re.compile(r"\\begin\s*\{pmatrix\}(?P<cells>(?:(?!\\begin|\\end).)*)\\end\s*\{pmatrix\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Form:
    """The outermost structure of a text.

    Attributes:
        kind: `ordered` stands in round or square brackets, a point or an interval; `free` is a list, with or without
            braces, whose order does not count.
        marks: what must be the same beside the parts: the brackets, a matrix's numbers of rows and columns.
        parts: one or more texts.
    """

    kind: Literal["ordered", "free", "union", "matrix"]
    marks: str
    parts: tuple[str, ...]


@lru_cache(maxsize=256)  # a comparison asks for the same text several times
def tidy(text: str) -> str:
    """The text without delimiters, in one spelling of what TeX and Unicode spell in several ways."""
    text = " ".join(text.translate(_SIGNS).split()).rstrip(".,;: ")
    for opening, closing in _DELIMITERS:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            inner = text.removeprefix(opening).removesuffix(closing)
            if opening not in inner and closing not in inner:
                text = inner.strip()
    if text.isascii() and text.replace(" ", "").isalnum() and "degree" not in text:
        return text
    for spelling, meant in _SPELLINGS:
        text = spelling.sub(meant, text)
    return _WORDED.sub(r"\1\2", text.replace(r"\$", "")).strip().rstrip(".,;: ")


def squeeze(text: str) -> str:
    """The text without blanks that mean nothing: `1 1/2` keeps its one."""
    return _SPACE.sub("", text)


def split_unit(text: str) -> tuple[str, str]:
    r"""What stands before a unit, and the unit in one spelling: `5\text{ cm}^2`, `5 cm^2`, `5 miles per hour`."""
    match = _UNIT.search(text)
    if not match or not match.start():
        return text, ""
    unit = (match["text"] or match["words"] or match["degrees"] or "") + (match["power"] or "")
    words = re.sub(r"[\s{}.]", " ", unit).casefold().split()
    return text[: match.start()], " ".join(word if len(word) < 4 else word.removesuffix("s") for word in words)


def split_equation(text: str) -> tuple[str, str]:
    r"""The name before `=` or `\in` and what follows, the name empty where there is none."""
    match = _EQUATION.fullmatch(text)
    return (squeeze(match["left"]), match["right"].strip()) if match else ("", text)


def form(text: str) -> Form | None:
    """The structure of a tidy text, None where it has none or its brackets do not match."""
    if match := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in re.split(r"\\\\", match["cells"]) if row.strip()]
        if not rows or len({len(row) for row in rows}) != 1:
            return None
        marks = f"{len(rows)} x {len(rows[0])}"
        return Form("matrix", marks, tuple(cell.strip() for row in rows for cell in row))
    unions = _split(text, "\\cup")
    if unions is None:
        return None
    if len(unions) > 1:
        return Form("union", "", tuple(unions)) if all(unions) else None
    inner, marks = _inside(text)
    parts = _split(inner, ",")
    if parts is None or not all(parts):
        return None
    if marks in ("()", "[]", "(]", "[)") and len(parts) > 1:
        return Form("ordered", marks, tuple(parts))
    if marks == "{}" or (not marks and len(parts) > 1):
        return Form("free", "", tuple(parts))
    if "\\pm" in inner and inner.count("\\pm") == 1 and not marks:
        return Form("free", "", (inner.replace("\\pm", "+"), inner.replace("\\pm", "-")))
    return None


def _inside(text: str) -> tuple[str, str]:
    """The text in the brackets that are around all of it, and these; braces are those of a set."""
    opening, closing = re.match(r"\\?[(\[{]", text), re.search(r"\\?[)\]}]$", text)
    if not opening or not closing:
        return text, ""
    braces = opening[0].endswith("{") and closing[0].endswith("}")
    if braces != (opening[0].endswith("{") or closing[0].endswith("}")) or len(text) < 3:
        return text, ""
    inner = text[opening.end() : closing.start()].strip()
    return (inner, opening[0][-1] + closing[0][-1]) if _depths(inner) is not None else (text, "")


def _depths(text: str) -> list[int] | None:
    """How many brackets are open at each place, None where more close than open; square may end round."""
    depths, depth = list[int](), 0
    for character in text:
        depth -= character in _CLOSING
        if depth < 0:
            return None
        depths.append(depth)
        depth += character in _OPENING
    return depths if depth == 0 else None


def _split(text: str, separator: str) -> list[str] | None:
    """The parts between separators outside brackets."""
    depths = _depths(text)
    if depths is None:
        return None
    parts, start, end = list[str](), 0, text.find(separator)
    while end != -1:
        if depths[end] == 0:
            parts.append(text[start:end].strip())
            start = end + len(separator)
        end = text.find(separator, end + len(separator))
    return [*parts, text[start:].strip()]
