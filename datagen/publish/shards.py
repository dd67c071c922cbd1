"""Where a table is cut into files, so that few of them change where rows are added.

Every row has a number, a hash of its key. A file begins at a row where the rows between the next smaller number before
it and the next smaller number after it, itself among them, are more than `most`: the recursion that cuts a table at its
least number, then either part at its own, until no part has more than `most` rows. So a cut depends on nothing but the
rows within `most` of it. Rows put in at one place change the file that they fall into, or those beside a cut that they
make or undo; rows at the end change the last file.

Source: priority search trees cut so are treaps (Seidel, Aragon. Randomized Search Trees. 1996), whose shape does not
depend on the order in which rows came.
"""

import hashlib
from collections.abc import Iterable, Mapping

LEAST = 32  # rows: below, a file is mostly its own footer
_PARTS = 64  # files of `most` rows each: one is then at most 1.6 % of all rows
_FEW, _MANY = 16, 512  # `most` stays what it was while that many files of `most` rows each hold the table
_MAX_BYTES = 2**28  # of rows as they are stored, in one file
_HASH_BYTES = 8


def most_rows(n_rows: int, n_bytes: int, before: int | None = None) -> int:
    """The most rows of a file: a power of two that gives 64 to 128 such files, LEAST or more.

    Args:
        n_rows: of the table.
        n_bytes: of it, as stored; no file has more than 256 MB, unless its LEAST rows have.
        before: what an earlier push took. It stays, until the table has grown to 512 files of so many rows or shrunk to
            16, since another one changes most of the files.
    """
    if before and before * _FEW <= n_rows < before * _MANY:
        most = before
    else:
        most = max(LEAST, _power_of_two(n_rows // _PARTS))
    by_bytes = _power_of_two(_MAX_BYTES * n_rows // max(n_bytes, 1))
    return max(min(most, by_bytes), LEAST)


def cut(keys: Iterable[str], most: int) -> list[int]:
    """Positions of the rows that begin a file, increasing, the first is 0; memory is that of the cuts.

    Args:
        keys: of the rows, in their order. Equal ones in a row are told apart by how often the key came just before.
        most: rows of a file, 1 or more.
    """
    cuts = [0]
    waiting: list[tuple[int, bytes]] = []  # rows whose next smaller number is still to come: numbers increase
    last, repeats, position = None, 0, 0

    def leave(end: int) -> None:
        row, _ = waiting.pop()
        before = waiting[-1][0] if waiting else -1
        if row and end - before - 1 > most:
            cuts.append(row)

    for position, key in enumerate(keys, start=1):
        repeats = repeats + 1 if key == last else 0
        last = key
        number = hashlib.blake2b(f"{key}\0{repeats}".encode(errors="surrogatepass"), digest_size=_HASH_BYTES).digest()
        while waiting and waiting[-1][1] > number:
            leave(position - 1)
        waiting.append((position - 1, number))
    while waiting:
        leave(position)
    return sorted(cuts)


def earlier(layout: Mapping[str, object], config: str, split: str) -> int | None:
    """What the layout of an earlier push says of a table's `most`."""
    found = layout.get(f"{config}/{split}")
    return found if isinstance(found, int) and found >= LEAST else None


def _power_of_two(number: int) -> int:
    """The largest that is not above it; 1 for less."""
    return 1 << max(number.bit_length() - 1, 0)
