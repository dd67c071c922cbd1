"""IFBench's test constraints on counts, ratios, words and sentences; `_ifbench_formats` has the others.

Pyatkin et al. Generalizing Verifiable Instruction Following. 2025. arXiv:2507.02833, table of the 58 out-of-domain
constraints; names and arguments are those of the benchmark's file. In two turns the last answer is checked by the same.

Where a description leaves room, this counts as the authors' program does; where the program departs from its
description, this follows the description, and the function says so. Throughout, words are what `_texts.words` finds:
the program has `don't` for two words in one check and for one in another, and lets a dash or a heading's `#` be a word.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from datagen.verify._ifeval import has_word, occurrences
from datagen.verify._texts import n_syllables, plain_words, sentences, starts_with_verb, words

_NAMES = frozenset(
    str.split("""
    Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin Harper
    Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria Elijah Layla
    Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan Stella Jonathan
    """)
)  # the constraint lists them
_CONJUNCTIONS = frozenset(str.split("for and nor but or yet so"))
_PRONOUNS = frozenset(
    str.split("""
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves this that these those who whom whose which what whoever
    whomever whatever whichever anybody anyone anything everybody everyone everything nobody nothing somebody someone
    something each either neither both all some any none
    """)
)
# Function words of English by kind, as in the list of the Snowball stemmer (Porter), which NLTK has too.
_STOP_WORDS = frozenset(
    str.split("""
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
    its itself they them their theirs themselves what which who whom this that these those am is are was were be been
    being have has had having do does did doing can will should don won ain aren couldn didn doesn hadn hasn haven isn
    ma mightn mustn needn shan shouldn wasn weren wouldn d ll m o re s t ve y a an the and but if or because as until
    while of at by for with about against between into through during before after above below to from up down in out on
    off over under again further then once here there when where why how all any both each few more most other some such
    no nor not only own same so than too very just now
    """)
)
_PRIMES = frozenset(n for n in range(2, 100) if all(n % divisor for divisor in range(2, n)))
_MARKS = frozenset(".,!?;:")
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")  # hiragana, katakana, kanji
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def word_count_range(text: str, *, min_words: int, max_words: int) -> bool:
    """So many words, both bounds allowed."""
    return min_words <= len(words(text)) <= max_words


def unique_word_count(text: str, *, N: int) -> bool:
    """At least N different words, in any case."""
    return len(set(words(text.lower()))) >= N


def stop_words(text: str, *, percentage: float) -> bool:
    """At most so many percent of the words are function words; of a contraction its first part decides."""
    parts = [re.split(r"['\u2019]", word)[0] for word in words(text.lower())]
    return bool(parts) and 100 * sum(part in _STOP_WORDS for part in parts) <= percentage * len(parts)


def sentence_type(text: str) -> bool:
    """Two sentences that end on a point for each question; the program also takes none of either."""
    ends = _end_marks(text)
    return ends["."] == 2 * ends["?"] > 0


def sentence_balance(text: str) -> bool:
    """As many statements as questions as exclamations; the program also takes none of any."""
    ends = _end_marks(text)
    return ends["."] == ends["?"] == ends["!"] > 0


def conjunctions(text: str, *, small_n: int) -> bool:
    """So many different coordinating conjunctions; the program takes `And` and `and` for two."""
    return len(_CONJUNCTIONS.intersection(words(text.lower()))) >= small_n


def person_names(text: str, *, N: int) -> bool:
    """At least N different names of the constraint's list."""
    return len(_NAMES.intersection(re.findall(r"[^\W_]+", text))) >= N


def overlap(text: str, *, reference_text: str, percentage: float) -> bool:
    """Of the text's different trigrams so many percent, give or take 2, stand in the reference; those of characters."""
    trigrams, reference = ({whole[i : i + 3] for i in range(len(whole) - 2)} for whole in (text, reference_text))
    return bool(trigrams) and abs(100 * len(trigrams & reference) / len(trigrams) - percentage) <= 2


def numbers(text: str, *, N: int) -> bool:
    """Exactly N numbers in digits; points and commas inside a number belong to it, other marks part two numbers."""
    return len(_NUMBER.findall(text)) == N


def alphabet(text: str) -> bool:
    """Each word starts with the letter after the one before, `A` after `Z`."""
    firsts = _first_letters(text)
    steps = all((ord(after) - ord(before)) % 26 == 1 for before, after in pairwise(firsts))
    return bool(firsts) and all("a" <= first <= "z" for first in firsts) and steps


def vowel(text: str) -> bool:
    """One paragraph with at most three of the vowels a, e, i, o, u."""
    return "\n" not in text.strip() and len(set("aeiou").intersection(text.lower())) <= 3


def consonants(text: str) -> bool:
    """Two consonants stand together in each word, y among them."""
    return all(re.search(r"[b-df-hj-np-tv-z]{2}", word) for word in words(text.lower()))


def alliteration_increment(text: str) -> bool:
    """Each sentence's longest run of words with one first letter is longer than that of the sentence before.

    The program adds up all runs of a sentence.
    """
    runs = [_longest_run(_first_letters(sentence)) for sentence in sentences(text)]
    return all(before < after for before, after in pairwise(runs))


def palindrome(text: str) -> bool:
    """At least ten words of five letters or more that read the same backwards; a repeated one counts again."""
    return sum(len(word) >= 5 and word == word[::-1] for word in plain_words(text)) >= 10


def punctuation(text: str) -> bool:
    """Each of . , ! ? ; : beside an interrobang, which is ?! or !? or one character."""
    interrobang = re.search(r"\?!|!\?|\u203d", text)
    return bool(interrobang) and set(text[: interrobang.start()] + text[interrobang.end() :]) >= _MARKS


def prime_lengths(text: str) -> bool:
    """Every word has a prime number of letters and digits, at most 97."""
    return all(len(word) in _PRIMES for word in plain_words(text))


def sentence_words(text: str) -> bool:
    """Three sentences of as many characters each, and no word twice, which the program does not check."""
    found, used = sentences(text), plain_words(text)
    return len(found) == 3 and len({len(sentence) for sentence in found}) == 1 and len(used) == len(set(used))


def words_japanese(text: str, *, N: int) -> bool:
    """Every N-th word is in Japanese or a number."""
    every_nth = [word for word in text.split() if any(map(str.isalnum, word))][_positive(N) - 1 :: int(N)]
    return all(_JAPANESE.search(word) or not any(map(str.isalpha, word)) for word in every_nth)


def start_verb(text: str) -> bool:
    """The first word is a form of a verb; see `_texts.starts_with_verb`, which finds more of them than the program."""
    return starts_with_verb(text)


def repeats(text: str, *, small_n: int) -> bool:
    """No word stands there more often than that."""
    return all(count <= small_n for count in Counter(words(text.lower())).values())


def keyword(text: str, *, word: str, N: int) -> bool:
    """The N-th sentence has the word."""
    return has_word(_nth(sentences(text), N), word)


def pronouns(text: str, *, N: int) -> bool:
    """At least N pronouns, repeated ones too."""
    parts = re.findall(r"[^\W_]+", text.lower())
    return sum(part in _PRONOUNS for part in parts) >= N


def odd_even_syllables(text: str) -> bool:
    """Words of an odd and of an even number of syllables take turns."""
    parities = [n_syllables(word) % 2 for word in plain_words(text)]
    return all(before != after for before, after in pairwise(parities))


def last_first(text: str) -> bool:
    """Each sentence starts with the last word of the one before."""
    found = [words(sentence.lower()) for sentence in sentences(text)]
    return all(before[-1] == after[0] for before, after in pairwise(found))


def paragraph_last_first(text: str) -> bool:
    """Each line ends with the word that it starts with."""
    found = [words(line) for line in text.lower().split("\n")]
    return all(line[0] == line[-1] for line in found if line)


def increment(text: str, *, small_n: int) -> bool:
    """Each sentence has exactly so many words more than the one before."""
    lengths = [len(words(sentence)) for sentence in sentences(text)]
    return all(after - before == small_n for before, after in pairwise(lengths))


def no_consecutive(text: str) -> bool:
    """No two words that follow each other start with one letter."""
    return all(before != after for before, after in pairwise(_first_letters(text)))


def keywords_multiple(text: str, *, keyword1: str, keyword2: str, keyword3: str, keyword4: str, keyword5: str) -> bool:
    """The five keywords stand there once, twice, three, five and seven times, also inside other words."""
    keywords = (keyword1, keyword2, keyword3, keyword4, keyword5)
    return [occurrences(text, one) for one in keywords] == [1, 2, 3, 5, 7]


def keywords_specific_position(text: str, *, keyword: str, n: int, m: int) -> bool:
    """The m-th word of the n-th sentence is the keyword."""
    return _nth(words(_nth(sentences(text), n)), m).lower() == keyword.strip().lower()


def words_position(text: str, *, keyword: str) -> bool:
    """The second word and the second to last are the keyword; marks are no words, as in the program some are."""
    found = words(text.lower())
    return len(found) > 1 and found[1] == found[-2] == keyword.strip().lower()


def _end_marks(text: str) -> Counter[str]:
    """How many sentences end on each mark; of several marks the last counts."""
    ends = (sentence.rstrip("\"'\u201d\u2019)]*_ ") for sentence in sentences(text))
    return Counter(end[-1:] for end in ends)


def _first_letters(text: str) -> list[str]:
    return [word[0] for word in words(text.lower())]


def _longest_run(letters: Sequence[str]) -> int:
    longest = length = 0
    for i, letter in enumerate(letters):
        length = length + 1 if i and letter == letters[i - 1] else 1
        longest = max(longest, length)
    return longest


def _nth(found: Sequence[str], n: int) -> str:
    """The n-th, counted from 1, or an empty text."""
    return found[_positive(n) - 1] if n <= len(found) else ""


def _positive(n: int) -> int:
    if n < 1 or n != int(n):
        raise ValueError(f"must be a whole number above 0, not {n}")
    return int(n)


CHECKS: dict[str, Callable[..., bool]] = {
    "count:word_count_range": word_count_range,
    "count:unique_word_count": unique_word_count,
    "count:conjunctions": conjunctions,
    "count:person_names": person_names,
    "count:numbers": numbers,
    "count:punctuation": punctuation,
    "count:pronouns": pronouns,
    "count:words_japanese": words_japanese,
    "count:keywords_multiple": keywords_multiple,
    "ratio:stop_words": stop_words,
    "ratio:sentence_type": sentence_type,
    "ratio:sentence_balance": sentence_balance,
    "ratio:sentence_words": sentence_words,
    "ratio:overlap": overlap,
    "words:alphabet": alphabet,
    "words:vowel": vowel,
    "words:consonants": consonants,
    "words:palindrome": palindrome,
    "words:prime_lengths": prime_lengths,
    "words:start_verb": start_verb,
    "words:repeats": repeats,
    "words:odd_even_syllables": odd_even_syllables,
    "words:last_first": last_first,
    "words:paragraph_last_first": paragraph_last_first,
    "words:no_consecutive": no_consecutive,
    "words:keywords_specific_position": keywords_specific_position,
    "words:words_position": words_position,
    "sentence:alliteration_increment": alliteration_increment,
    "sentence:keyword": keyword,
    "sentence:increment": increment,
}
