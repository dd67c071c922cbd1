"""Run a function in `$DATASTILL_PROCESSES` processes under torchrun, so that a stage's command stays the same.

The workers end with this process, even by SIGKILL.
"""

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datagen.contracts import errors
from datagen.contracts.stage import configure_logging, end_with_any

POLL_S = 0.2
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch(
    function: str, arguments: Mapping[str, Any], n_processes: int, look: Callable[[], None] = lambda: None
) -> Any:
    """Call a function in every process; what it returned in the first.

    Args:
        function: `module:name`.
        arguments: of it, which must be JSON, as what it returns must be.
        n_processes: of torchrun.
        look: called from time to time until they end, and once afterwards.

    Raises:
        DatastillError: as the function did in any process; of several, in the first of them.
        RuntimeError: the first process ended without a result; its traceback is on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="datastill-launch-") as folder:
        job = Path(folder, "job.json")
        results = [_result(job, rank) for rank in range(n_processes)]
        job.write_text(json.dumps({"function": function, "arguments": dict(arguments)}))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        libc = ctypes.CDLL(None)
        with subprocess.Popen(
            [*torchrun, "-m", __name__, str(job)],
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        ) as running:
            try:
                while running.poll() is None:
                    look()
                    time.sleep(POLL_S)
            finally:
                running.kill()  # nothing where it has ended; its workers end with it
        look()
        contents = {rank: json.loads(file.read_text()) for rank, file in enumerate(results) if file.exists()}
        for content in contents.values():
            if "error" in content:
                raise getattr(errors, content["error"])(content["message"])
        if 0 not in contents or running.returncode:
            raise RuntimeError(f"{function} ended without a result in {n_processes} processes ({running.returncode})")
        return contents[0]["returned"]


def n_processes() -> int:
    """`$DATASTILL_PROCESSES`, by default 1.

    Raises:
        ParamsError: it is not a positive whole number.
    """
    named = os.environ.get("DATASTILL_PROCESSES") or "1"
    if not named.isdecimal() or int(named) < 1:
        raise errors.ParamsError(f"$DATASTILL_PROCESSES: expected a positive whole number (got {named!r})")
    return int(named)


def _result(job: Path, rank: int) -> Path:
    return job.with_name(f"result-{rank}.json")


def _work(job: Path) -> None:
    end_with_any([os.getppid()])
    configure_logging()
    content = json.loads(job.read_text())
    module, name = content["function"].split(":")
    try:
        result = {"returned": getattr(importlib.import_module(module), name)(**content["arguments"])}
        _leave_group()  # here and not in the loop, which may train several students one after another
    except errors.DatastillError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    _result(job, int(os.environ["RANK"])).write_text(json.dumps(result))


def _leave_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
