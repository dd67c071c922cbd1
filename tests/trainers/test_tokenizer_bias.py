"""Which chunks count; oracles: identical tokenizers, and sentences cut by hand."""

import pytest

from tests.tiny_tokenizers import trained
from trainers.tokenizer_bias import Biased, Tokens, pieces

NARROW = trained(256)


def spelled(*words: str) -> Tokens:
    """Tokens 0, 1, ... of these bytes; any that starts another goes on half of the time."""
    what = dict(enumerate(word.encode() for word in words))
    goes_on = {
        token: any(other != one and other.startswith(one) for other in what.values()) for token, one in what.items()
    }
    return Tokens(what, {token: 0.5 * longer for token, longer in goes_on.items()}, True)


def test_identical_tokenizers_give_a_token_a_chunk():
    """Whatever the tokens, and though most have longer ones: both leave out the same."""
    wide = trained(330)
    tokens = [*wide("the theory of the 日本 thing")["input_ids"], wide.eos_token_id]
    which = Tokens.of(wide, [wide.eos_token_id], [tokens])
    assert any(which.continued[token] for token in tokens)
    found = pieces(tokens, tokens, which, which)
    assert [piece.first for piece in found] == [piece.second for piece in found]
    assert [(piece.first.start, piece.first.stop) for piece in found] == [(i, i + 1) for i in range(len(tokens))]
    assert not any(piece.first.starts_from_word or piece.first.ends_word for piece in found)


@pytest.mark.parametrize(
    ("biased", "chunks"),
    [
        # "re" + "ad" is one chunk up to the word's end, " on" ends the text with what might go on
        ("merged", [("read", False, True)]),
        ("dropped", [("ad", False, True)]),
    ],
)
def test_words_against_bytes(biased: Biased, chunks: list[tuple[str, bool, bool]]):
    """`read on` of the tokens re, ad, " on"; "re" starts "red", "ad" starts "add", " on" starts " one"."""
    subwords = spelled("re", "ad", " on", "red", "add", " one")
    text = "read on"
    single = Tokens({byte: bytes([byte]) for byte in range(256)}, dict.fromkeys(range(256), 0.0), True)
    found = pieces([0, 1, 2], list(text.encode()), subwords, single, biased=biased)
    assert [
        (text[piece.second.start : piece.second.stop], piece.first.starts_from_word, piece.first.ends_word)
        for piece in found
    ] == chunks


def test_a_chunk_starts_from_the_word_before_it():
    """Behind `a`, which might be `an`, ` b` is that word's end and what follows; ` c` never goes on."""
    subwords = spelled("a", " b", " c", "an", " bo")
    single = Tokens({byte: bytes([byte]) for byte in range(256)}, dict.fromkeys(range(256), 0.0), True)
    found = pieces([0, 1, 2], list(b"a b c"), subwords, single)
    assert [tuple(piece.second) for piece in found] == [(0, 1, False, True), (1, 3, True, True), (3, 5, True, False)]


def test_no_word_ends_where_tokens_hold_blanks():
    """Then only chunks without bias are left: ` c`, merged with all before it or alone."""
    subwords = spelled("a", " b", " c", "an", " bo")
    crossing = Tokens(subwords.spelled, subwords.continued, False)
    single = Tokens({byte: bytes([byte]) for byte in range(256)}, dict.fromkeys(range(256), 0.0), True)
    starts: dict[Biased, int] = {"merged": 0, "dropped": 3}
    for biased, start in starts.items():
        (found,) = pieces([0, 1, 2], list(b"a b c"), crossing, single, biased=biased)
        assert tuple(found.second) == (start, 5, False, False)


def test_the_bound_is_on_the_difference():
    """0.5 is too much below a bound of 0.5."""
    subwords = spelled("a", "an")
    single = Tokens({byte: bytes([byte]) for byte in range(256)}, dict.fromkeys(range(256), 0.0), True)
    assert len(pieces([0], list(b"a"), subwords, single, bound=0.5)) == 1
    assert not pieces([0], list(b"a"), subwords, single, bound=0.49)
