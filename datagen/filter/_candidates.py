"""Which rows are near-duplicates of an earlier one: signatures and shingles on disk, a few bytes a row in memory.

A temporary file holds, for each row, its shingles, its id, a digest of its text and its band keys, and another for each
band the keys alone. Rows with a common band key are put into groups, band after band (4 bytes a row); within a group
each row is compared with the earlier ones that it shares a band with and that stay. So what a run holds is about 30
bytes a row, of one group the band keys of its rows that stay, and 32 MB of shingles.
"""

import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.filter import _shingles
from datagen.filter._shingles import Hashes, Signed

PART = 2**18  # keys of one band sorted at once
COMPARED_AT_ONCE = 64  # rows with one row
MAX_HELD = 4 * 2**20  # shingles of kept rows in memory, 32 MB
_HEAD = struct.Struct("<16sI")  # digest, bytes of the id


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a row."""

    id: str
    digest: bytes
    keys: list[int]
    shingles: Hashes


class Index:
    """Rows in order, by what their texts are compared by."""

    def __init__(self, files: ExitStack, n_bands: int) -> None:
        """No row yet; `files` closes the temporary ones, which have no name and so end with the process."""
        n_files = 2 + n_bands
        opened = [
            files.enter_context(tempfile.TemporaryFile(prefix="datastill-filter-"))  # noqa: SIM115, `files` is one
            for _ in range(n_files)
        ]
        self.n = 0
        self._key_bytes = 8 * n_bands
        self._rows, self._ends, *self._keys = opened  # ends of rows in `_rows`, and a key a row in each band: 8 bytes
        self._end = 0

    def add(self, ids: Sequence[str], signed: Signed) -> None:
        """Put rows at the end, as they were signed."""
        parts: list[bytes] = []
        ends: list[int] = []
        for id, digest, keys, shingles in zip(ids, signed.digests, signed.keys, signed.sets, strict=True):
            name = id.encode("utf-8", "surrogatepass")
            row = (_HEAD.pack(digest, len(name)), name, keys.tobytes(), shingles.tobytes())
            self._end += sum(map(len, row))
            ends.append(self._end)
            parts += row
        self._rows.write(b"".join(parts))
        self._ends.write(np.array(ends, "<u8").tobytes())
        for band, file in enumerate(self._keys):
            file.write(signed.keys[:, band].tobytes())
        self.n += len(ids)

    def close(self) -> None:
        """Write what is not on disk yet; nothing is added after it."""
        for file in (self._rows, self._ends, *self._keys):
            file.flush()

    def read(self, row: int) -> Stored:
        """What is stored of a row."""
        first = 8 * max(row - 1, 0)
        ends = os.pread(self._ends.fileno(), 8 * (row + 1) - first, first)
        end = int.from_bytes(ends[-8:], "little")
        start = int.from_bytes(ends[:8], "little") if row else 0
        content = os.pread(self._rows.fileno(), end - start, start)
        digest, n_bytes = _HEAD.unpack_from(content)
        keys = _HEAD.size + n_bytes
        shingles = keys + self._key_bytes
        id = content[_HEAD.size : keys].decode("utf-8", "surrogatepass")
        of_bands = np.frombuffer(content[keys:shingles], np.uint64).tolist()
        return Stored(id, digest, of_bands, np.frombuffer(content[shingles:], np.uint64))

    def groups(self) -> Iterator[list[int]]:
        """Rows that a chain of common band keys joins, ascending; those that share none with any are in no group."""
        parents = array("i", range(self.n))
        for file in self._keys:
            for rows, keys in self._parts(file.fileno()):
                order = np.argsort(keys, kind="stable")  # equal keys stay in the order of their rows
                rows, keys = rows[order], keys[order]
                same = keys[1:] == keys[:-1]
                for one, next_one in zip(rows[:-1][same].tolist(), rows[1:][same].tolist(), strict=True):
                    _join(parents, one, next_one)
        roots = np.frombuffer(parents, np.int32).copy()
        while np.any((further := roots[roots]) != roots):
            roots = further
        joined = np.flatnonzero(roots != np.arange(self.n, dtype=np.int32))
        joined = joined[np.argsort(roots[joined], kind="stable")]
        starts = np.flatnonzero(np.diff(roots[joined], prepend=-1))
        for rows in np.split(joined, starts[1:]) if len(joined) else ():
            yield [int(roots[rows[0]]), *rows.tolist()]

    def _parts(self, band_file: int) -> Iterator[tuple[NDArray[np.int32], Hashes]]:
        """Rows and keys of one band, cut by key, so that equal keys are in one part."""
        n_parts = -(-self.n // PART)
        for part in range(n_parts):
            found: list[tuple[NDArray[np.int32], Hashes]] = []
            for first in range(0, self.n, PART):
                n_rows = min(PART, self.n - first)
                keys = np.frombuffer(os.pread(band_file, 8 * n_rows, 8 * first), np.uint64)
                mine = np.flatnonzero(keys % np.uint64(n_parts) == part) if n_parts > 1 else np.arange(n_rows)
                found.append(((mine + first).astype(np.int32), keys[mine]))
            yield np.concatenate([rows for rows, _ in found]), np.concatenate([keys for _, keys in found])


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found, by row.

    Attributes:
        of: the earlier row that it duplicates, else -1.
        similarity: their Jaccard.
        is_exact: whether their texts are equal.
        crowded: whether it stays and was not put with all rows of its keys, see `max_compared`.
    """

    of: NDArray[np.int32]
    similarity: NDArray[np.float32]
    is_exact: NDArray[np.bool_]
    crowded: NDArray[np.bool_]


def find_duplicates(index: Index, threshold: float, max_compared: int) -> Duplicates:
    """The rows to drop: those whose Jaccard with an earlier row that stays is at least the threshold.

    Rows that share no band are not compared, and of the rows that stay with one band key only the first `max_compared`
    are; equal texts always are. A dropped row is no reason to drop another, so no chain of small changes takes a row
    away from all that are like it.
    """
    flags = (np.zeros(index.n, np.bool_) for _ in range(2))
    found = Duplicates(np.full(index.n, -1, np.int32), np.zeros(index.n, np.float32), *flags)
    for group in index.groups():
        _resolve(index, group, threshold, max_compared, found)
    return found


def _resolve(index: Index, group: Iterable[int], threshold: float, max_compared: int, found: Duplicates) -> None:
    """Note for each row of the group the first kept row that it duplicates."""
    kept: dict[tuple[int, int | bytes], list[int]] = {}
    of_kept = _ShinglesOfKept(index)
    for row in group:
        stored = index.read(row)
        keys = [*enumerate(stored.keys), (-1, stored.digest)]
        others = sorted({other for key in keys for other in kept.get(key, ())})
        for start in range(0, len(others), COMPARED_AT_ONCE):
            compared = others[start : start + COMPARED_AT_ONCE]
            similarities = _shingles.jaccards(stored.shingles, [of_kept[other] for other in compared])
            if (similar := np.flatnonzero(similarities >= threshold)).size:
                first = int(similar[0])
                found.of[row], found.similarity[row] = compared[first], similarities[first]
                found.is_exact[row] = stored.digest == index.read(compared[first]).digest
                break
        else:
            for key in keys:
                same_key = kept.setdefault(key, [])
                if len(same_key) < max_compared:
                    same_key.append(row)
                else:
                    found.crowded[row] = True


class _ShinglesOfKept(dict[int, Hashes]):
    """Shingles by row, read when they are wanted first; no more than `MAX_HELD` of them at once."""

    def __init__(self, index: Index) -> None:
        super().__init__()
        self._index, self._n_held = index, 0

    def __missing__(self, row: int) -> Hashes:
        if self._n_held > MAX_HELD:
            self.clear()
            self._n_held = 0
        self[row] = shingles = self._index.read(row).shingles
        self._n_held += len(shingles)
        return shingles


def _join(parents: "array[int]", one: int, other: int) -> None:
    """Put two rows into one group, under its first row."""
    one, other = _root(parents, one), _root(parents, other)
    if one != other:
        parents[max(one, other)] = min(one, other)


def _root(parents: "array[int]", row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]  # halves the way for the next one
        row = parents[row]
    return row
