"""Which chunks of a text two tokenizers' likelihoods may be compared on.

The tokenizer-bias filter of Minixhofer, Vulić, Ponti. Universal Cross-Tokenizer Distillation via Approximate Likelihood
Matching. 2025. arXiv:2503.20083, with its bound of 1e-4. The likelihood of a chunk's tokens leaves out the texts that
start with the chunk's bytes and go on within a longer token. A chunk is biased where the two tokenizers differ in how
often that happens, by the frequencies of tokens in the texts at hand. The end of a word has no bias, since there both
likelihoods are those of a word that ends (`trainers.chunk_likelihoods`).

The paper drops biased chunks. They may also be merged with what follows up to an end without bias: for students of
bytes nearly all that is dropped are the beginnings of words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from trainers.byte_alignment import (
    WHITESPACE,
    Spelling,
    align,
    continued_shares,
    keeps_words,
    spellings,
    starts_word,
)

Biased = Literal["merged", "dropped"]


class Span(NamedTuple):
    """Token positions of a chunk, from start to before stop; whether it starts where a word ended, and ends one."""

    start: int
    stop: int
    starts_from_word: bool
    ends_word: bool


class Piece(NamedTuple):
    """A chunk that counts, in the tokens of both."""

    first: Span
    second: Span


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer's tokens.

    Attributes:
        spelled: what each stands for.
        continued: how often texts go on within a longer token where it could end.
        keeps_words: whether all words end where tokens end.
    """

    spelled: Mapping[int, Spelling]
    continued: Mapping[int, float]
    keeps_words: bool

    @classmethod
    def of(cls, tokenizer: Any, ends: Iterable[int], texts: Iterable[Sequence[int]]) -> "Tokens":
        """Of a tokenizer of transformers whose turns end with one of `ends`, counted in tokens of texts.

        Raises:
            MissingError: it is not byte-level, or normalises.
        """
        spelled = spellings(tokenizer, ends)
        counts = Counter(token for text in texts for token in text)
        return cls(spelled, continued_shares(spelled, counts), keeps_words(spelled))

    @property
    def starting_words(self) -> list[int]:
        """Those that start with white space, and the special ones."""
        return [token for token, what in self.spelled.items() if starts_word(what)]


def pieces(
    first: Sequence[int],
    second: Sequence[int],
    of_first: Tokens,
    of_second: Tokens,
    *,
    bound: float = 1e-4,
    biased: Biased = "merged",
) -> list[Piece]:
    """The chunks that count of two token sequences of one text, in order.

    Args:
        first: tokens.
        second: tokens.
        of_first: their tokenizer.
        of_second: their tokenizer.
        bound: the largest difference of `continued` at the end of an unbiased chunk.
        biased: what becomes of other chunks.

    Raises:
        DataError: they are not of one text.
    """
    chunks = align(first, second, of_first.spelled, of_second.spelled)
    kept: list[Piece] = []
    start, after_word = (0, 0), False  # of the next piece
    for i, chunk in enumerate(chunks):
        last, other = first[chunk.first_stop - 1], second[chunk.second_stop - 1]
        unbiased = abs(of_first.continued[last] - of_second.continued[other]) <= bound
        ends_word = (
            not unbiased
            and of_first.keeps_words
            and of_second.keeps_words
            and i + 1 < len(chunks)
            and not _ends_blank(of_first.spelled[last])
            and starts_word(of_first.spelled[first[chunk.first_stop]])
        )
        if unbiased or ends_word:
            kept.append(
                Piece(
                    Span(start[0], chunk.first_stop, after_word, ends_word),
                    Span(start[1], chunk.second_stop, after_word, ends_word),
                )
            )
        if unbiased or ends_word or biased == "dropped":
            start, after_word = (chunk.first_stop, chunk.second_stop), ends_word
    return kept


def _ends_blank(what: Spelling) -> bool:
    """White space after white space may be one token with it, so no word ends there."""
    return isinstance(what, str) or what[-1] in WHITESPACE
