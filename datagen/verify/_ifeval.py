"""The 25 verifiable instructions of IFEval.

Zhou et al. Instruction-Following Evaluation for Large Language Models. 2023. arXiv:2311.07911, table 1 for the types,
section 2.1 for what each means; names and arguments are those of the benchmark's file.

Where the paper is silent: upper and lower case are the same in keywords; a forbidden word is a whole word, a keyword
may stand inside another word. Where the authors' program departs from its descriptions, this follows the descriptions:
`well-made` and `don't` are one word and not two; a keyword is a text and no regular expression; a bullet is a line that
starts with `* ` or `- `, and a divider such as `---` is none; a highlight in `**` counts once; a placeholder, a title
and a postscript hold something; a section's heading is no end of another word.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Literal

from datagen.verify._texts import language, sentences, words

Relation = Literal["less than", "at least"]
_NO_JSON = object()
_FENCE = "```"


def existence(text: str, *, keywords: list[str]) -> bool:
    """Every keyword stands in the text."""
    return all(keyword.strip().lower() in text.lower() for keyword in keywords)


def frequency(text: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    """The keyword stands in the text that often."""
    return compare(occurrences(text, keyword), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: list[str]) -> bool:
    """None of the words stands in the text."""
    return not any(has_word(text, word) for word in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    """The letter, small or capital, stands in the text that often."""
    return compare(occurrences(text, letter), let_relation, let_frequency)


def response_language(text: str, *, language: str) -> bool:
    """The text is in the language of this ISO 639-1 code."""
    return is_in(text, language)


def number_words(text: str, *, num_words: int, relation: Relation) -> bool:
    """So many words, of letters and digits, apostrophes and hyphens inside a word."""
    return compare(len(words(text)), relation, num_words)


def number_sentences(text: str, *, num_sentences: int, relation: Relation) -> bool:
    """So many sentences; a rest without an end mark is one too."""
    return compare(len(sentences(text)), relation, num_sentences)


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
    paragraph = paragraphs[int(nth_paragraph) - 1].lstrip(" \t\"'\u201c")
    return paragraph[:1].isalnum() and words(paragraph)[0].lower() == first_word.lower()


def postscript(text: str, *, postscript_marker: str) -> bool:
    """The marker, such as `P.S.`, with a text after it."""
    marker = re.search(rf"(?<![\w.]){re.escape(postscript_marker)}", text, re.IGNORECASE)
    return bool(marker) and bool(re.search(r"\w", text[marker.end() :]))


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets, such as [address]."""
    return len(re.findall(r"\[[^\[\]\n]+\]", text)) >= num_placeholders


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that start with `* ` or `- `."""
    return len(re.findall(r"^[ \t]*[*-] +\S", text, re.MULTILINE)) == num_bullets


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """At least so many parts in `*` or `**`, such as *highlighted section*."""
    return len(re.findall(r"(\*\*?)(?=[^\s*])[^*\n]*[^\s*]\1", text)) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections, each headed by the splitter and a number, such as `SECTION 1`."""
    return len(re.findall(rf"(?<!\w){re.escape(section_spliter)}\s?\d+", text)) >= num_sections


def json_format(text: str) -> bool:
    """The whole text is JSON; a code fence around it is allowed."""
    return read_json(text) is not _NO_JSON


def title(text: str) -> bool:
    """A title in double angular brackets, such as <<poem of joy>>."""
    return any(re.search(r"\w", inside) for inside in re.findall(r"<<([^\n<>]+)>>", text))


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
    """English, in letters all of them capital."""
    return text.isupper() and is_in(text, "en")


def english_lowercase(text: str) -> bool:
    """English, in letters all of them small."""
    return text.islower() and is_in(text, "en")


def capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: Relation) -> bool:
    """So many words all of whose letters are capital."""
    return compare(sum(word.isupper() for word in words(text)), capital_relation, capital_frequency)


def no_comma(text: str) -> bool:
    """No comma."""
    return "," not in text


def compare(count: int, relation: Relation, bound: int) -> bool:
    """Whether a count is in the relation to the bound; ValueError for another relation than the two."""
    if relation == "at least":
        return count >= bound
    if relation == "less than":
        return count < bound
    raise ValueError(f"relation is 'less than' or 'at least', not {relation!r}")


def occurrences(text: str, keyword: str) -> int:
    """How often a keyword stands in the text, also inside other words; ValueError for an empty one."""
    if not keyword.strip():
        raise ValueError("the keyword is empty")
    return text.lower().count(keyword.strip().lower())


def has_word(text: str, word: str) -> bool:
    """Whether a word stands in the text, in any case, and not inside another word."""
    return bool(re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", text, re.IGNORECASE))


def is_in(text: str, code: str) -> bool:
    """Whether the text is in the language of this ISO 639-1 code."""
    return language(text) == code


def read_json(text: str) -> Any:
    """What the text holds as JSON, also inside one code fence; _NO_JSON where it is not JSON."""
    if len(text) > 2 * len(_FENCE) and text.startswith(_FENCE) and text.endswith(_FENCE):
        heading, newline, text = text.removesuffix(_FENCE).partition("\n")
        if not newline or heading.removeprefix(_FENCE).strip().lower() not in ("", "json"):
            return _NO_JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: nested more than a thousand deep
        return _NO_JSON


CHECKS: dict[str, Callable[..., bool]] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
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
}
