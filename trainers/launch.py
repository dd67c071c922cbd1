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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datagen.contracts import errors
from datagen.contracts.stage import configure_logging, end_with_any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch(function: str, arguments: Mapping[str, Any], n_processes: int) -> dict[str, Any]:
    """Call `function` (`module:name`) in every process with `arguments`, which must be JSON; what the first returned.

    Raises:
        DatastillError: as the function did in the first process.
        RuntimeError: a process ended without a result; its traceback is on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="datastill-launch-") as folder:
        job, result = Path(folder, "job.json"), Path(folder, "result.json")
        job.write_text(json.dumps({"function": function, "arguments": dict(arguments), "result": str(result)}))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        libc = ctypes.CDLL(None)
        done = subprocess.run(
            [*torchrun, "-m", "trainers.launch", str(job)],
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            check=False,
        )
        if not result.exists():
            raise RuntimeError(f"{function} ended without a result in {n_processes} processes ({done.returncode})")
        content = json.loads(result.read_text())
        if "error" in content:
            raise getattr(errors, content["error"])(content["message"])
        return content["returned"]


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
    if os.environ["RANK"] == "0":
        Path(content["result"]).write_text(json.dumps(result))


def _leave_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
