"""Whether a text names a label of a taxonomy, in whatever form of its words."""

import re
from functools import cache
from typing import Any

from datagen.synthesis.taxonomy import Taxonomy

_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'\u201d\u2019)]))\s+|(?<=[\u3002\uff01\uff1f])")


class LabelWords:
    """The words of a taxonomy's labels but the neutral one, in whatever form: words with the same stem.

    A form of a synonym is at most two letters shorter than it: `grieve` is one of `grieving`, `long` none of `longing`.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        """Names and synonyms may be of several words, which are looked for in a row."""
        neutral = taxonomy.find(taxonomy.neutral) if taxonomy.neutral else None
        self._names = {tuple(map(_stem, _split(name))) for name in taxonomy.names if name != neutral}
        self._synonyms: dict[str, dict[tuple[str, ...], list[str]]] = {
            label: {tuple(map(_stem, words := _split(synonym))): words for synonym in taxonomy.synonyms.get(label, ())}
            for label in taxonomy.names
            if label != neutral
        }
        phrases = [*self._names, *(stems for of_label in self._synonyms.values() for stems in of_label)]
        self._longest = max(map(len, phrases), default=0)

    def named_in(self, text: str, labels: tuple[str, ...] = ()) -> str | None:
        """The first words that are any label's name, or a synonym of one of `labels`; None where there are none."""
        words = _split(text)
        stems = tuple(map(_stem, words))
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                found = stems[start:end]
                if found in self._names or any(self._is_synonym(label, found, words[start:end]) for label in labels):
                    return " ".join(words[start:end])
        return None

    def _is_synonym(self, label: str, stems: tuple[str, ...], words: list[str]) -> bool:
        spelt = self._synonyms.get(label, {}).get(stems)
        return spelt is not None and all(len(word) >= len(like) - 2 for word, like in zip(words, spelt, strict=True))


def split_sentences(text: str) -> list[str]:
    """At the ends of sentences, what closes a quotation included; an abbreviation's point counts as one."""
    return [one for one in _SENTENCE_END.split(" ".join(text.split())) if one]


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


@cache
def _stem(word: str) -> str:
    """Snowball's stem; it leaves an adverb's ending, which is cut off first: angrily, angry."""
    return _stemmer().stemWord(re.sub(r"(?<=..)ly$", "", re.sub(r"(?<=..)ily$", "y", word)))


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")
