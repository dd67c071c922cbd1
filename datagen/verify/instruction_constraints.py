"""Verifiable instructions: does the completion do what each constraint of its prompt says?

Zhou et al. Instruction-Following Evaluation for Large Language Models. 2023. arXiv:2311.07911, table 1 for the types,
section 2.1 for what each means; names and arguments are those of the benchmark's file, of whose types
`language:response_language` alone is not here. Types of our own are named `datastill:`. This is the strict reading: the
completion is checked as it stands, less white space at its ends. Where the paper is silent: upper and lower case are
the same in keywords; a forbidden word is a whole word, a keyword may stand inside another word; a sentence ends on one
or more of . ! ? before white space or the end. An answer that was cut at its length limit follows nothing: what is
missing could break any instruction.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from datagen.contracts.params import Params
from datagen.contracts.records import Constraint, Status, Trace, Verdict

NAME = "instruction_constraints"
Relation = Literal["less than", "at least"]
_NO_JSON = object()
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


class Config(Params):
    """Nothing to choose: what is checked stands in each row."""

    method: Literal["instruction_constraints"] = NAME


def instruction_constraints(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """One verdict a trace: `pass` where all constraints are met; the score is the share met, of a cut answer 0.

    A constraint whose type is not in CHECKS, or takes other arguments, makes the row an `error`.
    """
    del config
    return map(_judge, traces)


def _judge(trace: Trace) -> Verdict:
    constraints = trace.prompt.constraints
    if not constraints:
        return _verdict(trace, "error", "no_constraints", "the prompt carries no constraints")
    if unknown := [constraint["id"] for constraint in constraints if constraint["id"] not in CHECKS]:
        detail = f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(CHECKS))}"
        return _verdict(trace, "error", "unknown_instruction", detail)
    try:
        failed = [constraint for constraint in constraints if not _is_met(constraint, trace.completion.strip())]
    except ValueError as error:
        return _verdict(trace, "error", "bad_arguments", str(error))
    if trace.finish_reason == "length":
        return _verdict(trace, "fail", "cut_off", "the answer was cut at its length limit")
    if failed:
        detail = "not met: " + "; ".join(f"{constraint['id']} {constraint['kwargs']}" for constraint in failed)
        return _verdict(trace, "fail", failed[0]["id"], detail, score=1 - len(failed) / len(constraints))
    return _verdict(trace, "pass", score=1.0)


def _verdict(
    trace: Trace, status: Status, reason: str | None = None, detail: str | None = None, score: float = 0.0
) -> Verdict:
    return Verdict(id=trace.id, method=NAME, status=status, score=score, reason=reason, detail=detail)


def _is_met(constraint: Constraint, text: str) -> bool:
    """Whether a text meets one constraint; null arguments count as absent, as in IFEval's file."""
    try:
        kwargs = {name: value for name, value in json.loads(constraint["kwargs"]).items() if value is not None}
        return CHECKS[constraint["id"]](text, **kwargs)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{constraint['id']} cannot be checked with {constraint['kwargs']}: {error}") from None


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
    return _compare(len(_WORD.findall(text)), relation, num_words)


def number_sentences(text: str, *, num_sentences: int, relation: Relation) -> bool:
    """So many sentences; a rest without an end mark is one too."""
    return _compare(len(_sentences(text)), relation, num_sentences)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs, divided by `***`, none of them empty."""
    paragraphs = [part.strip() for part in text.strip("* \n").split("***")]
    return len(paragraphs) == num_paragraphs and all(paragraphs)


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs, divided by empty lines, and the n-th starts with that word."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    if not 1 <= nth_paragraph <= num_paragraphs:
        raise ValueError(f"there is no paragraph {nth_paragraph} of {num_paragraphs}")
    if len(paragraphs) != num_paragraphs:
        return False
    word = _WORD.match(paragraphs[nth_paragraph - 1].lstrip(" \t\"'\u201c"))
    return bool(word) and word[0].lower() == first_word.lower()


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    """The letter, small or capital, stands in the text that often."""
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def postscript(text: str, *, postscript_marker: str) -> bool:
    """The marker, such as `P.S.`, with a text after it."""
    return bool(re.search(rf"(?<![\w.]){re.escape(postscript_marker)}.*\w", text, re.DOTALL | re.IGNORECASE))


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets, such as [address]."""
    return len(re.findall(r"\[[^\[\]\n]+\]", text)) >= num_placeholders


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """At least so many parts in `*` or `**`, such as *highlighted section*."""
    return len(re.findall(r"(\*\*?)(?=[^\s*])[^*\n]*[^\s*]\1", text)) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections, each headed by the splitter and a number, such as `SECTION 1`."""
    return len(re.findall(rf"(?<!\w){re.escape(section_spliter)}\s?\d+", text)) >= num_sections


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that start with `* ` or `- `."""
    return len(re.findall(r"^\s*[*-] +\S", text, re.MULTILINE)) == num_bullets


def json_format(text: str) -> bool:
    """The whole text is JSON; a code fence around it is allowed."""
    return _json(text) is not _NO_JSON


def constrained_response(text: str) -> bool:
    """One of the three answers that the benchmark allows stands in the text."""
    return any(answer in text for answer in ("My answer is yes.", "My answer is no.", "My answer is maybe."))


def two_responses(text: str) -> bool:
    """Two responses that differ, divided by `******`."""
    responses = [part.strip() for part in text.strip("* \n").split("******")]
    return len(responses) == 2 and all(responses) and responses[0] != responses[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The text starts with the prompt; case does not matter."""
    return text.lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, *, end_phrase: str) -> bool:
    """The text ends on this phrase; case and quotation marks around the text do not matter."""
    return text.strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole text stands in double quotation marks."""
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


def english_capital(text: str) -> bool:
    """Letters, all of them capital."""
    return text.isupper()


def english_lowercase(text: str) -> bool:
    """Letters, all of them small."""
    return text.islower()


def capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: Relation) -> bool:
    """So many words all of whose letters are capital."""
    return _compare(sum(word.isupper() for word in _WORD.findall(text)), capital_relation, capital_frequency)


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
    "keywords:letter_frequency": letter_frequency,
    "length_constraints:number_words": number_words,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:postscript": postscript,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "detectable_format:constrained_response": constrained_response,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "change_case:capital_word_frequency": capital_word_frequency,
    "punctuation:no_comma": no_comma,
    "datastill:exact_text": exact_text,
    "datastill:opening": opening,
    "datastill:one_question": one_question,
    "datastill:json_object": json_object,
}
