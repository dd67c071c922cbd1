"""What benchmarks.students_tokenizers does around training; oracles: bytes counted, sets, Student's t by hand."""

import math

import pytest

from benchmarks.students_tokenizers import cell, cut, dealt


def test_pieces_are_cut_at_blanks_and_none_is_too_long():
    """Everything but the short rest, in order; a word beyond the bound is no piece."""
    text = " ".join(f"word{i}é" for i in range(40))
    pieces = cut(text, 50)
    assert all(25 < len(piece.encode()) <= 50 for piece in pieces)
    assert text.startswith(" ".join(pieces)) and len(text) - len(" ".join(pieces)) <= 50
    assert cut("x" * 60, 50) == []


def test_no_text_is_on_both_sides():
    """A seed's deal is the same each time, and another seed's is another."""
    texts = [[f"{i}-{j}" for j in range(3)] for i in range(10)]
    learned, held_out = dealt(texts, 0, 12, 7)
    assert (len(learned), len(held_out)) == (12, 7)
    assert not {one.split("-")[0] for one in learned} & {one.split("-")[0] for one in held_out}
    assert dealt(texts, 0, 12, 7) == (learned, held_out) != dealt(texts, 1, 12, 7)


def test_differences_are_taken_seed_by_seed():
    """Differences -1, -2, -3: mean -2, half width t(0.975, 2) / sqrt(3) at a standard deviation of 1."""
    told = {
        "next_token": [{"bits_per_byte": v, "best": v, "learned_bits_per_byte": 1, "n_tokens": 5} for v in (4, 5, 6)],
        "likelihood_matching": [
            {"bits_per_byte": v, "best": 4, "learned_bits_per_byte": 1, "n_tokens": 5} for v in (3, 3, 3)
        ],
    }
    found = cell("likelihood_matching", told)["bits_per_byte_over_next_token"]
    half = 4.302652729911275 / math.sqrt(3)
    assert found["mean"] == pytest.approx(-2)
    assert (found["low"], found["high"]) == (pytest.approx(-2 - half), pytest.approx(-2 + half))
