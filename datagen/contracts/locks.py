"""Files that one process at a time holds."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from datagen.contracts.errors import LockedError


@contextmanager
def held(file: TextIO, busy: str) -> Generator[None]:
    """Hold an open file, opened with `a+`, and close it in the end; it says which process that is.

    Raises:
        LockedError: another process holds it; `busy` says, before the word process, what it does.
    """
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(f"{busy} process {file.read().strip()}; wait for it or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
