"""Checkpoints: training that was killed goes on from its last one, and ends where an unbroken run ends.

    HOME/checkpoints/KEY/
        lock              held by the training process
        step-00000120/    complete, as it was written under another name first
        best-00000080.pt  where a judge found the weights of a step best

KEY is a hash of what determines the result. Only the last checkpoint is kept, with the best weights that it knows of,
and nothing after the model is in place.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datagen.contracts.errors import ParamsError
from datagen.contracts.home import home
from datagen.contracts.locks import held

DEFAULT_INTERVAL_S = 120.0
LOCK = "lock"


def interval_s() -> float:
    """Seconds of training that a kill may cost: `$DATASTILL_CHECKPOINT_S`, by default 120. Results don't depend on it.

    Raises:
        ParamsError: it is not a number of seconds.
    """
    named = os.environ.get("DATASTILL_CHECKPOINT_S")
    try:
        seconds = float(named) if named else DEFAULT_INTERVAL_S
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ParamsError(f"$DATASTILL_CHECKPOINT_S: expected seconds, 0 for every step (got {named!r})")
    return seconds


def checkpoint_key(facts: Mapping[str, Any]) -> str:
    """32 hex digits of SHA-256 over the canonical JSON of everything that determines the result."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def code_hash(*packages: Path) -> str:
    """SHA-256 over the Python files of some packages' folders, their names and what is in them."""
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted(package.rglob("*.py")):
            name = file.relative_to(package.parent).as_posix()
            digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one training run."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self.folder = folder

    @classmethod
    @contextmanager
    def open(cls, key: str) -> Generator["Checkpoints"]:
        """Those under `key`, locked.

        Raises:
            LockedError: another process trains the same.
        """
        folder = home() / "checkpoints" / key
        folder.mkdir(parents=True, exist_ok=True)
        with held((folder / LOCK).open("a+"), "the same training runs in"):
            yield cls(folder)

    def latest(self) -> Path | None:
        """The last complete checkpoint."""
        return max(self.folder.glob("step-*"), default=None)

    def holds(self, step: int) -> bool:
        """Whether the checkpoint after `step` is there."""
        return (self.folder / f"step-{step:08d}").exists()

    @property
    def writing(self) -> Path:
        """Where the next one is written."""
        return self.folder / ".writing"

    def begin(self) -> None:
        """Make an empty folder to write the next one into."""
        shutil.rmtree(self.writing, ignore_errors=True)
        self.writing.mkdir(parents=True)

    def commit(self, step: int) -> None:
        """What was written is complete: sync it, give it its name, remove its predecessors."""
        for file in self.writing.rglob("*"):
            _sync(file)
        _sync(self.writing)
        done = self.folder / f"step-{step:08d}"
        self.writing.rename(done)
        _sync(self.folder)
        for old in self.folder.glob("step-*"):
            if old != done:
                self._remove(old)

    def best(self, step: int) -> Path:
        """Where the weights after `step` are kept, if they are the best."""
        return self.folder / f"best-{step:08d}.pt"

    def remove_before(self, step: int) -> None:
        """Remove the best weights of earlier steps; a checkpoint that knows of these is in place."""
        for worse in self.folder.glob("best-*.pt"):
            if worse.name < self.best(step).name:
                worse.unlink()

    def clear(self) -> None:
        """Remove them, and whatever else was kept here for a run that goes on: what was made is in place."""
        for done in self.folder.glob("step-*"):
            self._remove(done)
        for left in self.folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK:
                left.unlink()

    @property
    def _removing(self) -> Path:
        return self.folder / ".removing"

    def _remove(self, done: Path) -> None:
        """Under another name, so that a kill leaves none half removed that looks complete."""
        shutil.rmtree(self._removing, ignore_errors=True)
        done.rename(self._removing)
        shutil.rmtree(self._removing)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
