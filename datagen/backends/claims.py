"""Locks between the threads and processes that share a ledger: who commits, and who is buying which answer.

The kernel keeps both, so a lock lives exactly as long as its holder, however that ends: no pid, no clock, no clean-up.
"""

import fcntl
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)


class Turn:
    """One thread of one process at a time holds the turn."""

    def __init__(self, path: Path):
        self._file = path.open("ab")
        self._threads = threading.Lock()  # flock parts open files, not the threads that share one

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Wait for the turn and hold it; without `wait`, yields whether it was free and is held now."""
        is_held = False
        if not self._threads.acquire(blocking=wait):
            yield False
            return
        try:
            with suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = True
            try:
                yield is_held
            finally:
                if is_held:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Close the file; the turn must not be held."""
        self._file.close()


class Claims:
    """Keys claimed by one owner among all that open `path`, an empty file.

    A claim is a lock of one byte at the offset that the key's first 62 bits give: Linux open file description locks
    (fcntl(2)), which may lie beyond the end of a file. The kernel walks a list, so a claim costs 5 us beside 64
    others and 0.3 ms beside 10,000: claim what is about to be asked for, not a whole run.
    """

    def __init__(self, path: Path):
        self._file = path.open("ab")
        self._descriptor = self._file.fileno()
        self._mine: set[bytes] = set()
        self._threads = threading.Lock()

    def claim(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of `keys` that nobody held, not even this owner; they are this owner's from now on."""
        with self._threads:
            granted = {key for key in keys if key not in self._mine and self._lock(key, fcntl.F_WRLCK)}
            self._mine |= granted
        return granted

    def release(self, keys: Iterable[bytes]) -> None:
        """Give up those of `keys` that are this owner's."""
        with self._threads:
            for key in keys:
                if key in self._mine:
                    self._lock(key, fcntl.F_UNLCK)
                    self._mine.remove(key)

    def close(self) -> None:
        """Give up every key."""
        self._file.close()

    def _lock(self, key: bytes, kind: int) -> bool:
        offset = int.from_bytes(key[:8], "big") >> 2
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
        except BlockingIOError:
            return False
        return True
