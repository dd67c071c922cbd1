"""The 29 constraints of IFTrain, which IFBench's authors made to train on.

Pyatkin et al. Generalizing Verifiable Instruction Following. 2025. arXiv:2507.02833, table of the training constraints;
names and arguments are those of the authors' training data. Words and rules are those of `_ifbench`: where the authors'
program departs from the description that a teacher reads, this follows the description, and the function says so.
"""

import re
from collections.abc import Callable
from itertools import pairwise

from datagen.verify._ifbench import keywords_specific_position
from datagen.verify._ifbench_formats import repeat_span
from datagen.verify._ifeval import (
    Relation,
    compare,
    forbidden_words,
    letter_frequency,
    number_paragraphs,
    occurrences,
)
from datagen.verify._texts import plain_words, sentences, words

_MARKS_AFTER = ".,;:!?\"'\u201d\u2019"


def repeat_phrase(text: str, *, phrase: str, small_n: int) -> bool:
    """The phrase stands there so often, each time with one word changed that is neither its first nor its last.

    The program also counts what only starts and ends like the phrase.
    """
    given, expected = words(text.lower()), words(phrase.lower())
    if len(expected) < 3:
        raise ValueError(f"a phrase of {len(expected)} words has no word in its middle")
    starts = (i for i, word in enumerate(given) if word == expected[0])
    found = [given[i : i + len(expected)] for i in starts]
    n_changed = [
        sum(a != b for a, b in zip(one, expected, strict=True))
        for one in found
        if len(one) == len(expected) and one[-1] == expected[-1]
    ]
    return n_changed.count(1) == small_n and 0 not in n_changed


def copy(text: str, *, prompt_to_repeat: str) -> bool:
    """The request and nothing else, in any case."""
    return text.lower() == prompt_to_repeat.strip().lower()


def copying_multiple(text: str, *, prompt_to_repeat: str, N: int) -> bool:
    """The request N times, divided by `******`, in any case."""
    parts = text.split("******")
    return len(parts) == N and all(copy(part.strip(), prompt_to_repeat=prompt_to_repeat) for part in parts)


def sentence_hyphens(text: str) -> bool:
    """A hyphen and no white space between any two sentences; the program allows no hyphen inside a sentence."""
    parts = re.split(r"(?<=[.!?])-", text)
    return all(len(sentences(part)) == 1 and not part[0].isspace() for part in parts)


def no_adjacent_consecutive(text: str) -> bool:
    """No word starts with the letter after that of the word before it."""
    firsts = [word[0] for word in words(text.lower())]
    return not any("a" <= before < after <= "z" and ord(after) - ord(before) == 1 for before, after in pairwise(firsts))


def square_brackets(text: str) -> bool:
    """Every word stands in square brackets of its own; a mark may follow them, which the program does not allow."""
    tokens = [token.rstrip(_MARKS_AFTER) for token in text.split() if any(map(str.isalnum, token))]
    return all(token[0] == "[" and token[-1:] == "]" and not set("[]") & set(token[1:-1]) for token in tokens)


def word_once(text: str, *, keyword: str) -> bool:
    """The keyword stands there once, also inside another word."""
    return occurrences(text, keyword) == 1


def word_count_different_numbers(text: str, *, keyword: str, frequency: int, relation: Relation = "at least") -> bool:
    """The keyword stands there exactly that often, as the description says; the program goes by a hidden relation."""
    del relation
    return occurrences(text, keyword) == frequency


def exclude_word_harder(text: str, *, keyword: str) -> bool:
    """The word does not stand there, in any case; the program finds it between two spaces only."""
    return forbidden_words(text, forbidden_words=[keyword])


def paragraphs(text: str) -> bool:
    """Two paragraphs, divided by `***`."""
    return number_paragraphs(text, num_paragraphs=2)


def paragraphs2(text: str) -> bool:
    """Two paragraphs, divided by an empty line."""
    return len([part for part in text.split("\n\n") if part.strip()]) == 2


def first_word_sent(text: str, *, first_word: str | list[str]) -> bool:
    """Each sentence starts with the word."""
    return all(words(one)[0].lower() == _one(first_word) for one in sentences(text))


def first_word_answer(text: str, *, first_word: str | list[str]) -> bool:
    """The text starts with the word."""
    return [word.lower() for word in words(text)[:1]] == [_one(first_word)]


def last_word_sent(text: str, *, last_word: str | list[str]) -> bool:
    """Each sentence ends with the word, before its mark."""
    return all(words(one)[-1].lower() == _one(last_word) for one in sentences(text))


def last_word_answer(text: str, *, last_word: str | list[str]) -> bool:
    """The text ends with the word; marks after it do not matter."""
    return [word.lower() for word in words(text)[-1:]] == [_one(last_word)]


def bigram_wrapping(text: str) -> bool:
    """Each two words stand in double angular brackets of their own, and a last one may be left alone.

    A mark may follow the brackets, which the program does not allow; it does allow `<<one>> <<word>>`.
    """
    tokens = [token.rstrip(_MARKS_AFTER) for token in text.split() if any(map(str.isalnum, token))]
    pairs = zip(tokens[::2], tokens[1::2], strict=False)
    return all(_is_wrapped(f"{first} {second}") for first, second in pairs)


def punctuation_dot(text: str) -> bool:
    """No point."""
    return "." not in text


def punctuation_exclamation(text: str) -> bool:
    """No exclamation mark."""
    return "!" not in text


def lowercase_counting(text: str, *, N: int) -> bool:
    """At most N words all of whose letters are small."""
    return sum(word.islower() for word in words(text)) <= N


def letter_counting(text: str, *, N: int, relation: Relation) -> bool:
    """So many letters from a to z, small or capital."""
    return compare(len(re.findall("[a-zA-Z]", text)), relation, N)


def counting_composition(text: str, *, n_sent: int, n_words: int) -> bool:
    """Three paragraphs divided by `***` or `* * *`, of so many sentences, of so many words each.

    The program counts marks as words, and takes no divider before the first paragraph or after the last.
    """
    parts = [part for part in re.split(r"\*\*\*|\* \* \*", text.strip("* \n")) if part.strip()]
    found = [[len(words(one)) for one in sentences(part)] for part in parts]
    return found == [[n_words] * int(n_sent)] * 3


def count_unique(text: str) -> bool:
    """No word twice, in any case; the program counts marks as words."""
    found = words(text.lower())
    return len(found) == len(set(found))


def count_increment_word(text: str, *, keyword1: str, keyword2: str) -> bool:
    """One keyword once, the other twice, also inside other words."""
    return (occurrences(text, keyword1), occurrences(text, keyword2)) == (1, 2)


def palindrome(text: str) -> bool:
    """A word of three letters or more that reads the same backwards; to the program `a` is one."""
    return any(len(word) >= 3 and word == word[::-1] for word in plain_words(text))


def start_end(text: str) -> bool:
    """The first word is the last one too, with nothing after it."""
    found = words(text.lower())
    return len(found) > 1 and found[0] == found[-1] and text[-1].isalnum()


def _is_wrapped(pair: str) -> bool:
    return pair.startswith("<<") and pair.endswith(">>") and not set("<>") & set(pair[2:-2])


def _one(word: str | list[str]) -> str:
    """The word in small letters; some rows of the training data have a list of one."""
    (one,) = [word] if isinstance(word, str) else word
    return one.strip().lower()


CHECKS: dict[str, Callable[..., bool]] = {
    "copy:repeat_phrase": repeat_phrase,
    "copy:copy": copy,
    "copy:copying_simple": copy,
    "copy:copying_multiple": copying_multiple,
    "new:copy_span_idx": repeat_span,
    "detectable_format:sentence_hyphens": sentence_hyphens,
    "detectable_format:square_brackets": square_brackets,
    "detectable_format:bigram_wrapping": bigram_wrapping,
    "keywords:no_adjacent_consecutive": no_adjacent_consecutive,
    "keywords:word_once": word_once,
    "keywords:word_count_different_numbers": word_count_different_numbers,
    "keywords:exclude_word_harder": exclude_word_harder,
    "keywords:palindrome": palindrome,
    "keywords:keyword_specific_position": keywords_specific_position,
    "keywords:start_end": start_end,
    "paragraphs:paragraphs": paragraphs,
    "paragraphs:paragraphs2": paragraphs2,
    "first_word:first_word_sent": first_word_sent,
    "first_word:first_word_answer": first_word_answer,
    "last_word:last_word_sent": last_word_sent,
    "last_word:last_word_answer": last_word_answer,
    "punctuation:punctuation_dot": punctuation_dot,
    "punctuation:punctuation_exclamation": punctuation_exclamation,
    "count:lowercase_counting": lowercase_counting,
    "count:counting_composition": counting_composition,
    "count:count_unique": count_unique,
    "count:count_increment_word": count_increment_word,
    "letters:letter_counting": letter_counting,
    "letters:letter_counting2": letter_frequency,
}
