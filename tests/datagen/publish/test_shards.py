"""Cuts of tables; oracle: the recursion that the docstring describes, and files compared before and after."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.publish.shards import LEAST, cut, earlier, most_rows


def by_recursion(numbers: list[bytes], start: int, end: int, most: int) -> set[int]:
    """Cut at the least number, then either part."""
    if end - start <= most:
        return set()
    least = min(range(start, end), key=numbers.__getitem__)
    return {least} | by_recursion(numbers, start, least, most) | by_recursion(numbers, least + 1, end, most)


@given(st.lists(st.text(max_size=3), max_size=60, unique=True), st.integers(1, 9))
def test_cuts_are_those_of_the_recursion(keys: list[str], most: int):
    numbers = [hashlib.blake2b(f"{key}\0000".encode(errors="surrogatepass"), digest_size=8).digest() for key in keys]
    assert cut(keys, most) == sorted(by_recursion(numbers, 0, len(keys), most) | {0})


@given(st.lists(st.integers(), min_size=1, max_size=300, unique=True), st.integers(2, 40))
def test_no_file_has_more_rows_than_the_most(keys: list[int], most: int):
    cuts = [*cut(map(str, keys), most), len(keys)]
    assert max(after - before for before, after in pairwise(cuts)) <= most + 1


def test_a_key_that_repeats_is_no_reason_to_cut_everywhere():
    """300 equal keys, at most 32 rows a file: by the mean of random trees 2 (300 + 1) / (32 + 2) = 18 files."""
    assert 10 <= len(cut(["same"] * 300, 32)) <= 28


def files(keys: list[str], most: int) -> set[tuple[str, ...]]:
    cuts = [*cut(keys, most), len(keys)]
    return {tuple(keys[before:after]) for before, after in pairwise(cuts)}


@pytest.mark.parametrize("n_rows", [2048, 4095, 10_000, 60_000])
def test_a_hundredth_more_rows_changes_a_twentieth_at_most(n_rows: int):
    """At the end, at the front, and at ten places between; 5 % is what the Hub's users are promised."""
    most = most_rows(n_rows, n_rows)
    keys = [f"row-{i}" for i in range(n_rows)]
    before = files(keys, most)
    n_new = n_rows // 100
    for place in [n_rows, *(n_rows * i // 11 for i in range(11))]:
        longer = [*keys[:place], *(f"new-{place}-{i}" for i in range(n_new)), *keys[place:]]
        changed = sum(map(len, files(longer, most_rows(len(longer), len(longer), most)) - before))
        assert changed <= 0.05 * len(longer)


def test_files_are_few_and_hold_what_memory_can():
    assert most_rows(10, 10_000) == LEAST
    assert most_rows(1_000_000, 10**9) == 8192  # 122 files of so many rows
    assert most_rows(1_000_000, 10**12) == 256  # a megabyte a row: 256 MB a file
    assert most_rows(100_000, 10**8, before=512) == 512  # 196 of them are not too many
    assert most_rows(1_000_000, 10**9, before=512) == 8192  # 1954 are
    assert most_rows(6_000, 10**6, before=512) == 64  # 12 are too few
    assert earlier({"default/train": 512}, "default", "train") == 512
    assert earlier({"default/train": "x"}, "default", "train") is earlier({}, "default", "train") is None
