"""Oracle: the definition, computed another way: the top 63 bits of SHA-256 of the joined text."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from datagen.contracts.seeding import derive_seed


@given(st.integers(), st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers()))
def test_is_the_first_63_bits_of_sha256(seed: int, parts: list[str | int]):
    joined = "\x1f".join([str(seed), *map(str, parts)]).encode()
    bits = bin(int(hashlib.sha256(joined).hexdigest(), 16))[2:].zfill(256)
    assert derive_seed(seed, *parts) == int(bits[:63], 2)


def test_parts_are_kept_apart():
    """("a", "bc"), ("ab", "c") and ("abc",) are three records."""
    assert (
        len({derive_seed(0, "a", "bc"), derive_seed(0, "ab", "c"), derive_seed(0, "abc"), derive_seed(1, "abc")}) == 4
    )


def test_bits_are_balanced():
    """Each of 63 bits is set in half of 20,000 seeds, within 5 standard deviations (0.5 / sqrt(20000) = 0.0035)."""
    seeds = [derive_seed(0, "row", index) for index in range(20_000)]
    for bit in range(63):
        assert abs(sum(seed >> bit & 1 for seed in seeds) / len(seeds) - 0.5) < 5 * 0.0036
