"""Oracles: counts by hand, and n-grams counted as substrings of a text with a letter a token."""

import random

from datagen.comparison.repetition import is_looping, repeated_share


def test_a_loop_is_more_than_the_bound():
    """One token 40 times holds its 20-gram 21 times; 39 times, 20 times."""
    assert is_looping([7] * 40, n=20, max_count=20)
    assert not is_looping([7] * 39, n=20, max_count=20)
    assert not is_looping(list(range(1000)), n=20, max_count=20)


def test_a_loop_of_several_tokens_amid_others():
    """A phrase of 20 tokens 21 times, with a different token after each: no other 20-gram stands as often."""
    phrase = list(range(20))
    text = [token for i in range(21) for token in [*phrase, 1000 + i]]
    assert is_looping(text, n=20, max_count=20)
    assert not is_looping(text[21:], n=20, max_count=20)


def test_substrings_are_the_n_grams():
    text = "".join(random.Random(0).choices("ab", k=60))
    most = max(sum(text.startswith(text[i : i + 4], j) for j in range(57)) for i in range(57))
    tokens = [ord(letter) for letter in text]
    assert is_looping(tokens, n=4, max_count=most - 1) and not is_looping(tokens, n=4, max_count=most)


def test_the_share_of_repeated_n_grams():
    """abcdabcd: abcd bcda cdab dabc abcd, one of five stood before; aaaaa: one of two; too short: no n-gram."""
    assert repeated_share([1, 2, 3, 4, 1, 2, 3, 4]) == 1 - 4 / 5
    assert repeated_share([1] * 5) == 1 / 2
    assert repeated_share([1, 2, 3, 4]) == 0
    assert repeated_share([1, 2, 3]) is None
