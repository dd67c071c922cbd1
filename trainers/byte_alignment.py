"""What the tokens of two tokenizers spell, and the smallest pieces of a text that both cut out of it.

Greedy alignment of Minixhofer, Vulić, Ponti. Universal Cross-Tokenizer Distillation via Approximate Likelihood
Matching. 2025. arXiv:2503.20083: a chunk ends wherever a token of each ends at the same byte, so no two chunks could be
cut smaller. Tokens are compared by the bytes that they stand for, never by characters: a character cut between two
tokens is no chunk's end unless both tokenizers cut it there.

Words: a token spells `bytes`, or is special and spells a `str`, its own text; all tokens that end a turn spell `END`.
"""

import bisect
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from datagen.contracts.errors import DataError, MissingError

Spelling = bytes | str

END = "end of turn"  # what every token that ends a turn spells, whatever its text
WHITESPACE = frozenset(b" \t\n\r\v\f")


class Chunk(NamedTuple):
    """A piece of text as token positions of both sequences, from start to before stop."""

    first_start: int
    first_stop: int
    second_start: int
    second_stop: int


def byte_symbols() -> dict[int, str]:
    """The character by which byte-level BPE writes each byte.

    Radford et al. Language Models are Unsupervised Multitask Learners. 2019, section 2.2, in its code: bytes that are
    printable and no blank in Latin-1 are written as they are, the others, in order, by the characters from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def spellings(tokenizer: Any, ends: Iterable[int] = ()) -> dict[int, Spelling]:
    """What each token stands for.

    Args:
        tokenizer: of transformers, byte-level BPE, or of bytes.
        ends: tokens that end a turn.

    Returns:
        Token to its bytes, or to its text where it is special. Ids that no text gives, as those of a padded
        vocabulary, are not among them.

    Raises:
        MissingError: the tokenizer changes texts before it cuts them, or is not byte-level.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str()) if getattr(tokenizer, "is_fast", False) else {}
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    if "ByteLevel" not in json.dumps(state.get("decoder")):
        raise MissingError(f"tokenizer {name!r} is not byte-level: what bytes its tokens stand for is not known")
    if state.get("normalizer"):
        raise MissingError(f"tokenizer {name!r} normalises texts ({state['normalizer']['type']}); bytes are lost by it")
    byte_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    added = {token["id"]: token["content"] for token in state["added_tokens"]}
    spelled: dict[int, Spelling] = {
        id: bytes(byte_of[symbol] for symbol in text)
        for text, id in tokenizer.get_vocab().items()
        if id not in added and all(symbol in byte_of for symbol in text)
    }
    return spelled | added | dict.fromkeys(ends, END)


def content(tokens: Iterable[int], spelled: Mapping[int, Spelling]) -> list[Spelling]:
    """What a sequence says, the same for every tokenizer: runs of bytes between special tokens.

    Raises:
        DataError: a token stands for nothing.
    """
    said: list[Spelling] = []
    for token in tokens:
        if token not in spelled:
            raise DataError(f"token {token} is not in the tokenizer's vocabulary; was it made by another tokenizer?")
        what = spelled[token]
        if isinstance(what, bytes) and said and isinstance(said[-1], bytes):
            said[-1] += what
        else:
            said.append(what)
    return said


def align(
    first: Sequence[int],
    second: Sequence[int],
    first_spelled: Mapping[int, Spelling],
    second_spelled: Mapping[int, Spelling],
) -> list[Chunk]:
    """The smallest common chunks of two token sequences of one text, in order; together they hold every token.

    A special token is a chunk with the other's special token, and with nothing else.

    Raises:
        DataError: the sequences say different things; tells from which byte on.
    """
    said, other = content(first, first_spelled), content(second, second_spelled)
    if said != other:
        place, mine, theirs = _first_difference(said, other)
        raise DataError(f"the tokenizers' texts differ from byte {place} on: {mine!r} and {theirs!r}")
    return common_chunks(lengths(first, first_spelled), lengths(second, second_spelled))


def lengths(tokens: Iterable[int], spelled: Mapping[int, Spelling]) -> list[int]:
    """Bytes of each token; a special one counts 1."""
    return [len(what) if isinstance(what := spelled[token], bytes) else 1 for token in tokens]


def common_chunks(first: Sequence[int], second: Sequence[int]) -> list[Chunk]:
    """Chunks of two sequences of token lengths.

    Args:
        first: bytes of each token, above 0.
        second: of the other sequence, of the same sum.
    """
    ends = [{end: i + 1 for i, end in enumerate(accumulate(one))} for one in (first, second)]
    if any(length < 1 for length in (*first, *second)) or sum(first) != sum(second):
        raise ValueError(f"lengths above 0 with equal sums (got {sum(first)} and {sum(second)})")
    common = [(0, 0), *((i, ends[1][end]) for end, i in ends[0].items() if end in ends[1])]
    return [Chunk(a, b, c, d) for (a, c), (b, d) in pairwise(common)]


def continued_shares(spelled: Mapping[int, Spelling], counts: Mapping[int, int]) -> dict[int, float]:
    """How often a text whose token could end here goes on within a longer token, for every token.

    That is the share of longer tokens among all that start with the token's bytes, itself included. It is what a
    tokenizer's likelihood of a chunk lacks: the texts that start with the chunk's bytes and are cut elsewhere.

    Args:
        spelled: of the tokenizer.
        counts: how often tokens occur in some texts. Each counts once more, so that a longer token which these texts
            lack still counts.

    Returns:
        Shares in [0, 1); 0 for special tokens and for those that no other token starts with.
    """
    words = sorted((what, token) for token, what in spelled.items() if isinstance(what, bytes))
    totals = [0, *accumulate(counts.get(token, 0) + 1 for _, token in words)]
    texts = [what for what, _ in words]
    shares = dict.fromkeys(spelled, 0.0)
    for what, token in words:
        start, stop = bisect.bisect_left(texts, what), bisect.bisect_left(texts, _after(what))
        longer = bisect.bisect_right(texts, what)
        shares[token] = (totals[stop] - totals[longer]) / (totals[stop] - totals[start])
    return shares


def starts_word(spelled: Spelling) -> bool:
    """Whether a token cannot go on with the word before it: it starts with white space, or is special."""
    return isinstance(spelled, str) or spelled[0] in WHITESPACE


def keeps_words(spelled: Mapping[int, Spelling]) -> bool:
    """Whether no token holds white space behind anything else, so that every word ends where a token ends."""
    return not any(
        isinstance(what, bytes)
        and any(byte not in WHITESPACE and after in WHITESPACE for byte, after in pairwise(what))
        for what in spelled.values()
    )


def _after(what: bytes) -> bytes:
    """The least bytes above all that start with `what`."""
    kept = what.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\xff" * (1 << 10)


def _first_difference(said: Sequence[Spelling], other: Sequence[Spelling]) -> tuple[int, object, object]:
    """Where two contents part, special tokens counted as one byte, and some of what each says there."""
    mine, theirs = ([symbol for what in one for symbol in _symbols(what)] for one in (said, other))
    place = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    return place, b"".join(mine[place : place + 12]), b"".join(theirs[place : place + 12])


def _symbols(what: Spelling) -> list[bytes]:
    return [bytes([byte]) for byte in what] if isinstance(what, bytes) else [f"<{what}>".encode()]
