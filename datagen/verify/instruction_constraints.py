"""Verifiable instructions: does the completion do what each constraint of its prompt says?

Zhou et al. Instruction-Following Evaluation for Large Language Models. 2023. arXiv:2311.07911, table 1 for the types,
section 2.1 for what each means; names and arguments are those of the benchmark's file. Types of our own are named
`datastill:`. This is the strict reading: the completion is checked as it stands, less white space at its ends.
Where the paper is silent: upper and lower case are the same in keywords; a forbidden word is a whole word, a keyword
may stand inside another word; a sentence ends on one or more of . ! ? before white space or the end. An answer that was
cut at its length limit follows nothing: what is missing could break any instruction.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from datagen.contracts.errors import DataError
from datagen.contracts.params import Params
from datagen.contracts.records import Constraint, Trace, Verdict

NAME = "instruction_constraints"
Relation = Literal["less than", "at least"]
_NO_JSON = object()


class Config(Params):
    """Nothing to choose: what is checked stands in each row."""

    method: Literal["instruction_constraints"] = NAME


def instruction_constraints(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """One verdict a trace: `pass` where all constraints are met; the score is the share met, of a cut answer 0.

    Raises:
        DataError: an instruction type that is not in CHECKS, or arguments that it does not take.
    """
    del config
    for trace in traces:
        constraints = trace.prompt.constraints
        failed = [constraint for constraint in constraints if not is_met(constraint, trace)]
        score = 1 - len(failed) / max(len(constraints), 1)
        if not constraints:
            detail = "the prompt carries no constraints"
            yield Verdict(id=trace.id, method=NAME, status="error", score=0.0, reason="no_constraints", detail=detail)
        elif failed:
            detail = "not met: " + "; ".join(f"{constraint['id']} {constraint['kwargs']}" for constraint in failed)
            yield Verdict(id=trace.id, method=NAME, status="fail", score=score, reason=failed[0]["id"], detail=detail)
        elif trace.finish_reason == "length":
            detail = "the answer was cut at its length limit"
            yield Verdict(id=trace.id, method=NAME, status="fail", score=0.0, reason="cut_off", detail=detail)
        else:
            yield Verdict(id=trace.id, method=NAME, status="pass", score=score)


def is_met(constraint: Constraint, trace: Trace) -> bool:
    """Whether the trace's completion meets one constraint; null arguments count as absent, as in IFEval's file."""
    kind = constraint["id"]
    check = CHECKS.get(kind)
    if check is None:
        raise DataError(f"trace {trace.id!r}: unknown instruction {kind!r}; there are {', '.join(sorted(CHECKS))}")
    try:
        kwargs = {name: value for name, value in json.loads(constraint["kwargs"]).items() if value is not None}
        return check(trace.completion.strip(), **kwargs)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"trace {trace.id!r}: {kind} cannot be checked with {constraint['kwargs']}: {error}") from None


def existence(text: str, *, keywords: list[str]) -> bool:
    """Every keyword stands in the text."""
    return all(keyword.lower() in text.lower() for keyword in keywords)


def frequency(text: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    """The keyword stands in the text that often."""
    return _compare(text.lower().count(keyword.lower()), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: list[str]) -> bool:
    """None of the words stands in the text."""
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


def number_words(text: str, *, num_words: int, relation: Relation) -> bool:
    """So many words, of letters and digits, apostrophes and hyphens inside a word."""
    return _compare(len(re.findall(r"\w+(?:['\u2019-]\w+)*", text)), relation, num_words)


def number_sentences(text: str, *, num_sentences: int, relation: Relation) -> bool:
    """So many sentences; a rest without an end mark is one too."""
    return _compare(len(_sentences(text)), relation, num_sentences)


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that start with `* ` or `- `."""
    return len(re.findall(r"^\s*[*-] +\S", text, re.MULTILINE)) == num_bullets


def json_format(text: str) -> bool:
    """The whole text is JSON; a code fence around it is allowed."""
    return _json(text) is not _NO_JSON


def quotation(text: str) -> bool:
    """The whole text stands in double quotation marks."""
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


def english_capital(text: str) -> bool:
    """Letters, all of them capital."""
    return text.isupper()


def english_lowercase(text: str) -> bool:
    """Letters, all of them small."""
    return text.islower()


def no_comma(text: str) -> bool:
    """No comma, and not nothing."""
    return bool(text) and "," not in text


def title(text: str) -> bool:
    """A title in double angular brackets, such as <<poem of joy>>."""
    return bool(re.search(r"<<[^\n<>]*\w[^\n<>]*>>", text))


def exact_text(text: str, *, expected: str) -> bool:
    """This text and nothing else."""
    return text == expected


def opening(text: str, *, phrase: str) -> bool:
    """The text starts with the phrase; case and quotation marks around it don't matter."""
    return bool(re.match(rf"[\"'\u201c]?{re.escape(phrase)}\b", text, re.IGNORECASE))


def one_question(text: str) -> bool:
    """One sentence, and that a question."""
    return text.endswith("?") and len(_sentences(text)) == 1


def json_object(text: str, *, expected: dict[str, Any]) -> bool:
    """A JSON object that equals this one."""
    return _json(text) == expected


def _compare(count: int, relation: Relation, bound: int) -> bool:
    if relation == "at least":
        return count >= bound
    if relation == "less than":
        return count < bound
    raise ValueError(f"relation is 'less than' or 'at least', not {relation!r}")


def _sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])[\"'\u201d\u2019)]*(?:\s+|$)", text)
    return [part for part in parts if re.search(r"\w", part)]


def _json(text: str) -> Any:
    """What the text holds as JSON, also inside one code fence; _NO_JSON where it is not JSON."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n\s*```", text, re.DOTALL | re.IGNORECASE)
    try:
        return json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):  # RecursionError: nested more than a thousand deep
        return _NO_JSON


CHECKS: dict[str, Callable[..., bool]] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "length_constraints:number_words": number_words,
    "length_constraints:number_sentences": number_sentences,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "startend:quotation": quotation,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
    "datastill:exact_text": exact_text,
    "datastill:opening": opening,
    "datastill:one_question": one_question,
    "datastill:json_object": json_object,
}
