"""Word n-grams as 64-bit hashes, their MinHash signatures, and the bands by which similar sets of them meet.

Broder, On the resemblance and containment of documents, 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, section 3.4. Two different n-grams of a million have the same hash with a chance of 3e-8.

Axes: R texts, P hash functions, B bands.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.contracts.words import spaced_words

Hashes = NDArray[np.uint64]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_SPACE = 32
_LONG = 64  # bytes of a word, from which BLAKE2b hashes it
_FIRST_BYTES = np.array([256**n - 1 for n in range(9)], np.uint64)  # masks of the first n bytes of eight


@dataclass(frozen=True, slots=True)
class Signed:
    """What texts are compared by, one each: a digest of 16 bytes, the set of shingles, and (R, B) band keys."""

    digests: list[bytes]
    sets: list[Hashes]
    keys: Hashes


def sign_texts(texts: Sequence[str], n: int, n_bands: int, n_rows: int, seed: int) -> Signed:
    """All that is worked out of each text alone, so that any process may do it for any chunk of them.

    Args:
        texts: normalised; of one without a word the whole is its only one.
        n: words of a shingle.
        n_bands: of the signature.
        n_rows: MinHash functions of a band.
        seed: of the hash functions.
    """
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    sets = shingle_sets([spaced_words(text) or _as_one_word(text) for text in texts], n)
    return Signed(digests, sets, band_keys(sign(sets, n_bands * n_rows, seed), n_bands, n_rows))


def _as_one_word(text: str) -> bytes:
    return b"\1" + text.encode("utf-8", "surrogatepass").replace(b" ", b"\1")


def hash_words(texts: Sequence[bytes]) -> tuple[Hashes, NDArray[np.int64]]:
    """A hash for each word of the texts, in order, and (R + 1,) the number of the word that each text begins with.

    Words stand between spaces. They are read eight bytes at a time, all words at once; a hash is the same on every
    machine.
    """
    joined = b" " + b" ".join(texts) + b" " * 8  # so that eight bytes follow wherever a word begins
    is_word = np.frombuffer(joined, np.uint8) != _SPACE
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, sizes = edges[::2], edges[1::2] - edges[::2]
    eights = np.ndarray(len(joined) - 7, "<u8", joined, strides=(1,))  # those that begin at each byte
    hashes = _mixed(sizes.astype(np.uint64))
    for first in range(0, min(int(sizes.max(initial=0)), _LONG), 8):
        at = np.flatnonzero(sizes > first)
        eight = eights[starts[at] + first] & _FIRST_BYTES[np.minimum(sizes[at] - first, 8)]
        hashes[at] = _mixed(hashes[at] ^ eight)
    for at in np.flatnonzero(sizes > _LONG).tolist():
        hashes[at] = hash_bytes(joined[starts[at] : starts[at] + sizes[at]])
    ends = np.cumsum([1, *(len(text) + 1 for text in texts)])
    return hashes, np.searchsorted(starts, ends)


def _mixed(values: Hashes) -> Hashes:
    """One to one, so that words of at most eight bytes of one size never have the same hash."""
    values = (values ^ (values >> np.uint64(32))) * _MULTIPLIER
    values = (values ^ (values >> np.uint64(29))) * _MIXER
    return values ^ (values >> np.uint64(32))


def hash_bytes(content: bytes) -> int:
    """64 bits of BLAKE2b over it."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def hash_n_grams(of_words: Hashes, n: int) -> Hashes:
    """A hash for each n-gram of consecutive words, in order, from those of the words; of fewer than n there is none."""
    if len(of_words) < n:
        return np.empty(0, np.uint64)
    n_grams = of_words[: len(of_words) - n + 1].copy()
    for i in range(1, n):
        n_grams = n_grams * _MULTIPLIER + of_words[i : len(of_words) - n + 1 + i]
        n_grams ^= n_grams >> np.uint64(32)  # so that the order of the words counts in every bit
    return n_grams * _MIXER


def shingle_sets(texts: Sequence[bytes], n: int) -> list[Hashes]:
    """The set of n-grams of each text, sorted; fewer than n words are one n-gram, and of none the set is empty."""
    of_words, ends = hash_words(texts)
    n_grams = hash_n_grams(of_words, n)
    sets: list[Hashes] = []
    for start, end in itertools.pairwise(ends.tolist()):
        n_words = end - start
        mine = n_grams[start : end - n + 1] if n_words >= n else hash_n_grams(of_words[start:end], max(n_words, 1))
        mine = np.sort(mine)
        is_new = np.ones(len(mine), np.bool_)
        np.not_equal(mine[1:], mine[:-1], out=is_new[1:])
        sets.append(mine[is_new])
    return sets


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
