"""A stage that trains, killed on its way, and what it wrote."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil


def contents(folder: Path) -> dict[str, bytes]:
    """Name to bytes of every file of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def kill_after_a_checkpoint(command: list[str], home: Path, pattern: str = "checkpoints/*/step-*") -> None:
    """SIGKILL a training process when its first checkpoint stands, in `home`; its children must end with it."""
    stage = subprocess.Popen(command, env={**os.environ, "DATASTILL_CHECKPOINT_S": "0", "OMP_NUM_THREADS": "1"})
    try:
        while not list(home.glob(pattern)):
            assert stage.poll() is None, "the stage ended before it could be killed"
            time.sleep(0.01)
        children = psutil.Process(stage.pid).children(recursive=True)
    finally:
        stage.kill()
    assert stage.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
