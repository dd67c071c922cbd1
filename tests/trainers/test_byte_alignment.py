"""Alignment of tokens by bytes; oracles: texts encoded as UTF-8, every cut tried, the tokenizers library's alphabet."""

from itertools import accumulate, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from datagen.contracts.errors import DataError, MissingError
from tests.tiny_tokenizers import trained
from trainers.byte_alignment import (
    END,
    Chunk,
    align,
    byte_symbols,
    common_chunks,
    continued_shares,
    keeps_words,
    spellings,
)

WIDE, NARROW = trained(330), trained(256, end="<end>")
SPELLED = [spellings(one, [one.eos_token_id]) for one in (WIDE, NARROW)]


def said(tokens: list[int], which: int) -> bytes:
    return b"".join(what if isinstance(what, bytes) else b"" for what in (SPELLED[which][token] for token in tokens))


def test_symbols_are_the_library_s():
    """The tokenizers library's own alphabet, and its pre-tokenizer on all bytes that are characters."""
    symbols = byte_symbols()
    assert sorted(symbols.values()) == sorted(pre_tokenizers.ByteLevel.alphabet()) and len(symbols) == 256
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for character in map(chr, [*range(0x80), 0xE9, 0x65E5, 0x1F642]):
        ((text, _),) = cut.pre_tokenize_str(character)
        assert text == "".join(symbols[byte] for byte in character.encode())


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_tokens_spell_the_text(text: str):
    """Whatever the text: its UTF-8 bytes."""
    for which, one in enumerate((WIDE, NARROW)):
        assert said(one(text)["input_ids"], which) == text.encode()


@given(st.lists(st.integers(1, 3), max_size=8), st.lists(st.integers(1, 3), max_size=8))
def test_chunks_are_the_smallest_common_ones(first: list[int], second: list[int]):
    """Of all ways to group both into equally many chunks of equal bytes, the one with the most."""
    gap = sum(first) - sum(second)
    second = [*second, *[1] * max(gap, 0)]
    first = [*first, *[1] * max(-gap, 0)]
    ends = [{0, *accumulate(one)} for one in (first, second)]
    best: list[int] = []
    inner = [sorted(one - {0, sum(first)}) for one in ends]
    for chosen in product(*[(False, True)] * min(len(inner[0]), 10)):
        cuts = [end for end, taken in zip(inner[0][:10], chosen, strict=True) if taken]
        if set(cuts) <= ends[1] and len(cuts) > len(best):
            best = cuts
    chunks = common_chunks(first, second)
    found = [sum(first[: chunk.first_stop]) for chunk in chunks[:-1]]
    assert found[: len(best)] == best  # the first ten ends of the first sequence are tried
    assert set(found) <= ends[0] & ends[1]
    for chunk in chunks:
        assert sum(first[chunk.first_start : chunk.first_stop]) == sum(second[chunk.second_start : chunk.second_stop])
    assert sum(chunk.first_stop - chunk.first_start for chunk in chunks) == len(first)


def test_a_character_cut_between_tokens_is_one_chunk():
    """é is two tokens of the one and, after training on it, one of the other; 🙂 is four bytes of both, cut alike."""
    taught = trained(257, texts=("éééé é é é",))
    spelled = spellings(taught)
    first, second = taught("é")["input_ids"], NARROW("é")["input_ids"]
    assert len(first) == 1 and align(first, second, spelled, SPELLED[1]) == [Chunk(0, 1, 0, 2)]
    smile = NARROW("🙂")["input_ids"]
    assert align(taught("🙂")["input_ids"], smile, spelled, SPELLED[1]) == [Chunk(i, i + 1, i, i + 1) for i in range(4)]


def test_ends_of_turns_are_the_same_whatever_their_text():
    first, second = ([*one("the end")["input_ids"], one.eos_token_id] for one in (WIDE, NARROW))
    chunks = align(first, second, *SPELLED)
    assert chunks[-1] == Chunk(len(first) - 1, len(first), len(second) - 1, len(second))
    assert SPELLED[0][first[-1]] == END


def test_other_texts_are_refused_with_their_place():
    with pytest.raises(DataError, match=r"from byte 4 on: b'mat' and b'cat'"):
        align(WIDE("the mat")["input_ids"], NARROW("the cat")["input_ids"], *SPELLED)


def test_a_special_token_is_no_text():
    """The text "<s>" and the token <s>."""
    with pytest.raises(DataError, match="differ from byte 1"):
        align([*WIDE("a")["input_ids"], WIDE.bos_token_id], NARROW("a<")["input_ids"], *SPELLED)


def test_a_token_of_no_tokenizer_is_refused():
    with pytest.raises(DataError, match="token 9999 is not in the tokenizer's vocabulary"):
        align([9999], NARROW("a")["input_ids"], *SPELLED)


def test_tokenizers_that_lose_bytes_are_refused():
    lowering = trained(256)
    lowering.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(MissingError, match="normalises texts"):
        spellings(lowering)
    without = trained(256)
    without.backend_tokenizer.decoder = None
    with pytest.raises(MissingError, match="not byte-level"):
        spellings(without)


def test_shares_by_trying_every_pair():
    """Counts, plus one each, of tokens that are longer, over those that are not shorter."""
    counts = {token: i % 7 for i, token in enumerate(sorted(SPELLED[0]))}
    texts = {token: what for token, what in SPELLED[0].items() if isinstance(what, bytes)}
    shares = continued_shares(SPELLED[0], counts)
    for token, what in texts.items():
        going_on = {other: counts[other] + 1 for other, text in texts.items() if text.startswith(what)}
        longer = sum(n for other, n in going_on.items() if texts[other] != what)
        assert shares[token] == pytest.approx(longer / sum(going_on.values()), abs=1e-15)
    assert any(share > 0 for share in shares.values())
    assert shares[WIDE.bos_token_id] == 0
    assert max(continued_shares(SPELLED[1], {}).values()) == 0  # no byte starts another


def test_words_end_with_tokens_unless_a_token_holds_more():
    """The pre-tokenizer that cuts before blanks, and a vocabulary with a token across one."""
    assert keeps_words(SPELLED[0])
    assert not keeps_words({0: b"a", 1: b"of the"})
