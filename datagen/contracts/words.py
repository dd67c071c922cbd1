"""The words of a text, as texts are compared by them: case, punctuation and white space aside."""

import re
import unicodedata

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without spaces between words, as a part of a regular expression's character class."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
"""A run of letters and digits; of scripts that put no spaces between words (Chinese, Thai, ...), one character."""

_SPACED = bytes(code if chr(code).isalnum() or chr(code) == "_" else ord(" ") for code in range(128)) + bytes(128)


def normalise(text: str) -> str:
    """The text in Unicode's composed form, case-folded, each run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def find_words(normalised: str) -> list[str]:
    """Its words, without punctuation."""
    if normalised.isascii():  # the same, in half the time
        return normalised.encode().translate(_SPACED).decode().split()
    return _WORD.findall(normalised)


def spaced_words(normalised: str) -> bytes:
    """Its words in UTF-8 with spaces between, some of them more than one; empty where there is no word."""
    if normalised.isascii():
        return normalised.encode().translate(_SPACED).strip(b" ")
    return " ".join(_WORD.findall(normalised)).encode("utf-8", "surrogatepass")
