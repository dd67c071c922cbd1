"""Word n-grams as 64-bit hashes, their MinHash signatures, and the bands by which similar sets of them meet.

Broder, On the resemblance and containment of documents, 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, section 3.4. Two different n-grams of a million have the same hash with a chance of 3e-8.

Axes: R rows, P hash functions, B bands.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

MAX_WORDS_KEPT = 500_000  # of whose hashes a table is kept: about 60 MB, and no more for any number of rows
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
_MIXER = np.uint64(0xD6E8FEB86659FD93)


class WordHashes(dict[str, int]):
    """The hash of a word, the same on every machine."""

    def __missing__(self, word: str) -> int:
        """Hash a word that is new."""
        if len(self) == MAX_WORDS_KEPT:
            self.clear()
        self[word] = value = hash_text(word)
        return value


def hash_text(text: str) -> int:
    """64 bits of BLAKE2b over it."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def hash_n_grams(words: Sequence[str], n: int, hashes: WordHashes) -> Hashes:
    """A hash for each n-gram of consecutive words, in order; of fewer than n words there is none."""
    if len(words) < n:
        return np.empty(0, np.uint64)
    of_words = np.fromiter(map(hashes.__getitem__, words), np.uint64, len(words))
    n_grams = of_words[: len(words) - n + 1].copy()
    for i in range(1, n):
        n_grams = n_grams * _MULTIPLIER + of_words[i : len(words) - n + 1 + i]
        n_grams ^= n_grams >> np.uint64(32)  # so that the order of the words counts in every bit
    return n_grams * _MIXER


def shingles(words: Sequence[str], n: int, hashes: WordHashes) -> Hashes:
    """The set of n-grams, sorted; of fewer than n words, all of them are one n-gram; of none the set is empty."""
    n_grams = hash_n_grams(words, min(n, len(words)), hashes) if words else np.empty(0, np.uint64)
    n_grams.sort()
    return n_grams[np.diff(n_grams, prepend=~n_grams[:1]) != 0]  # np.unique, in a fifth of its time


def jaccards(one: Hashes, others: Sequence[Hashes]) -> NDArray[np.float64]:
    """Size of the intersection over size of the union of a set with each of `others`, all sorted and none empty."""
    sizes = np.fromiter(map(len, others), np.int64, len(others))
    flat = np.concatenate(others)
    at = np.minimum(np.searchsorted(one, flat), len(one) - 1)
    n_common = np.add.reduceat(one[at] == flat, np.cumsum(sizes) - sizes, dtype=np.int64)
    return n_common / (len(one) + sizes - n_common)


def choose_bands(threshold: float, n_hashes: int, min_recall: float) -> tuple[int, int] | None:
    """(bands, hashes a band): the most selective that let a pair at the threshold meet with at least `min_recall`.

    A pair of Jaccard s meets in one of B bands of r with the chance 1 - (1 - s^r)^B (Mining of Massive Datasets,
    section 3.4.2). None where even bands of one hash do not reach it.
    """
    for n_rows in range(n_hashes, 0, -1):
        n_bands = n_hashes // n_rows
        if 1 - (1 - threshold**n_rows) ** n_bands >= min_recall:
            return n_bands, n_rows
    return None


def sign(sets: Sequence[Hashes], n_hashes: int, seed: int) -> NDArray[np.uint32]:
    """MinHash signatures (R, P), a row for each set; none is empty."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] # compiled, and without stubs

    ends = np.cumsum([0, *map(len, sets)])
    matrix: Any = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(sets), ends.tolist(), n_hashes, seed)
    return np.array(matrix.to_rows(), np.uint32)


def band_keys(signatures: NDArray[np.uint32], n_bands: int, n_rows: int) -> Hashes:
    """(R, B): one key for the `n_rows` values of each band; what is left over is not used."""
    bands = signatures[:, : n_bands * n_rows].reshape(len(signatures), n_bands, n_rows).astype(np.uint64)
    keys = np.zeros(bands.shape[:2], np.uint64)
    for i in range(n_rows):
        keys = (keys ^ bands[:, :, i]) * _MULTIPLIER
        keys ^= keys >> np.uint64(29)
    return keys
