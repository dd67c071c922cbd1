"""Processes that write a ledger, and the keys and answers that they and the tests expect."""

import hashlib
import subprocess
import sys
from pathlib import Path

# What every child process starts with: the keys and answers that the parent expects.
CHILD = """
import asyncio, hashlib, os, sys, threading, time
from pathlib import Path
from datagen.backends.ledger import Ledger
key = lambda i: hashlib.sha256(b"%d" % i).digest()
answer = lambda i: b"%d:" % i + hashlib.sha256(b"a%d" % i).hexdigest().encode() * 8
path = Path(sys.argv[1])
"""


def key(i: int) -> bytes:
    return hashlib.sha256(b"%d" % i).digest()


def answer(i: int) -> bytes:
    """About 500 bytes."""
    return b"%d:" % i + hashlib.sha256(b"a%d" % i).hexdigest().encode() * 8


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", CHILD + script, *map(str, arguments)]


def run(script: str, *arguments: object) -> str:
    """A child's standard output; it must end well and say nothing on standard error."""
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def start(script: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(command(script, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


SIXTY_FOUR = """
kind, n = sys.argv[2], int(sys.argv[3])
with Ledger.open(path) as ledger:
    if kind == "tasks":
        async def write(writer):
            for i in range(writer, n, 64):
                await ledger.aput(key(i), answer(i))
        async def write_all():
            await asyncio.gather(*map(write, range(64)))
        asyncio.run(write_all())
    else:
        def write(writer):
            for i in range(writer, n, 64):
                ledger.put(key(i), answer(i))
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(64)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
"""


def flip_byte_of(path: Path, text: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(text)] ^= 1
    path.write_bytes(data)
