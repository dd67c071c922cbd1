"""What tests let workers of a cluster do; workers import it by name."""

import os
import signal
import time
from pathlib import Path

from datagen.contracts.errors import DataError


def squares(numbers: list[int]) -> list[int]:
    return [number * number for number in numbers]


def whose(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def die_once(marker: str, number: int) -> int:
    """The number, but whoever comes first to 5 ends without a word."""
    if number == 5:
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    raise DataError(f"row {number}: not one of ours")
