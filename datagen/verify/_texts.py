"""What words, sentences, syllables and languages are, for the checks of verifiable instructions.

Every function takes time linear in its text, as texts come from models: no pattern here can backtrack over a run.
"""

import re
import unicodedata

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
# Starts where no mark stands before, so that a run of marks is read once.
_SENTENCE_END = re.compile(r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019)\]*_]*+(?=\s|$)")
_ABBREVIATIONS = frozenset(
    str.split("""
    mr mrs ms dr prof rev hon gen col capt lt sgt gov sen rep st mt jr sr vs fig vol ch sec approx e.g i.e cf
    """)
)
_BEFORE_POINT = re.compile(r"(?:\w\.)*\w+\Z")
_ENUMERATOR = re.compile(r"(?:\A|\n)[ \t>#*-]*\d{1,3}\Z")
_LANGUAGE_CHARS = 5_000  # of a text tell its language; the identifier reads byte by byte
_OPENING_CHARS = 1_000  # hold the words that a text starts with


def words(text: str) -> list[str]:
    """The words in order: letters and digits, with apostrophes and hyphens inside a word."""
    return [word for found in _WORD.findall(text) if (word := found.strip("_"))]


def plain_words(text: str) -> list[str]:
    """The words in order, in small letters, each without the apostrophes and hyphens inside."""
    return ["".join(filter(str.isalnum, word)) for word in words(text.lower())]


def sentences(text: str) -> list[str]:
    """The sentences in order, each with its end mark; a rest without one is a sentence too.

    A sentence ends on one or more of . ! ? and an ellipsis, with the quotation marks and brackets that close there,
    before white space or the end. The point of an abbreviation, of an initial or of a number that heads a line ends
    none.
    """
    return [piece.strip() for piece in pieces(text) if re.search(r"[^\W_]", piece)]


def pieces(text: str) -> list[str]:
    """The text cut after each end of a sentence; a piece may hold no word, such as an emoji between two sentences."""
    cut, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not _is_inside(text, end):
            cut.append(text[start : end.end()])
            start = end.end()
    return [*cut, text[start:]]


def _is_inside(text: str, end: re.Match[str]) -> bool:
    """Whether the point belongs to what stands before it; looks back by a few characters only."""
    if end[0] != ".":
        return False
    point = end.start()
    before = text[max(0, point - 12) : point]
    if _ENUMERATOR.search(before, int(point > 12)):  # where the text is longer, `before` does not start a line
        return True
    word = _BEFORE_POINT.search(before)
    if not word:
        return False
    if word[0].lower() in _ABBREVIATIONS or (len(word[0]) == 1 and word[0].isupper() and word[0] != "I"):
        return True
    following = text[point + 1 : point + 3].lstrip()[:1]
    return "." in word[0] and following.islower()  # such as a.m. or U.S.


def lines(text: str) -> list[str]:
    """The lines that are not blank, with the white space at their starts."""
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def without_accents(text: str) -> str:
    """The text with its letters' accents taken off."""
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def is_emoji(char: str) -> bool:
    """Whether a character is an emoji, alone or as a part of one."""
    import emoji

    return emoji.is_emoji(char)


def n_syllables(word: str) -> int:
    """Syllables of an English word, of one that syllapy's dictionary lacks by its rules."""
    import syllapy

    return syllapy.count(word)


def starts_with_verb(text: str) -> bool:
    """Whether the first word is a form of a verb, by the lexicon and the rules of TextBlob's pattern tagger.

    It reads the ten words that the text starts with. An imperative that is a noun more often, such as `Water the
    plants`, it takes for the noun.
    """
    from textblob.en.taggers import PatternTagger

    opening = " ".join(words(text[:_OPENING_CHARS])[:10])
    tags = PatternTagger().tag(opening)
    return bool(tags) and tags[0][1].startswith(("VB", "MD"))


def language(text: str) -> str:
    """ISO 639-1 code of the language that a text is most probably in, of the 97 that py3langid knows.

    Lui, Baldwin. langid.py: An Off-the-shelf Language Identification Tool. ACL 2012. It gives one text one answer,
    which langdetect does not without a seed, and knows all languages of IFEval, which lingua does not. Case is left out
    of account, as it learned from texts in ordinary case; a text of no letters has no language.
    """
    import py3langid

    start = text[:_LANGUAGE_CHARS].lower()
    return py3langid.classify(start)[0] if re.search(r"[^\W\d_]", start) else ""
