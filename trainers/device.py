"""Where students train: the device, the number of processes, the threads. Machine facts, never parameters."""

import os
from importlib.util import find_spec

from datagen.contracts.errors import MissingError, ParamsError


def device_type() -> str:
    """`$DATASTILL_DEVICE` (`cpu` or `cuda`), else `cuda` where there is one, else `cpu`.

    Raises:
        ParamsError: `$DATASTILL_DEVICE` is something else.
        MissingError: it is `cuda`, and torch finds none.
    """
    import torch

    named = os.environ.get("DATASTILL_DEVICE")
    if named not in {None, "", "cpu", "cuda"}:
        raise ParamsError(f"$DATASTILL_DEVICE: expected cpu or cuda (got {named!r})")
    if named == "cuda" and not torch.cuda.is_available():
        raise MissingError(f"$DATASTILL_DEVICE is cuda, but torch {torch.__version__} finds no CUDA device; unset it")
    return named or ("cuda" if torch.cuda.is_available() else "cpu")


def check_packages() -> None:
    """Fail before any work where what trains students is not installed.

    Raises:
        MissingError: torch, transformers or accelerate is missing.
    """
    if missing := [name for name in ("torch", "transformers", "accelerate") if find_spec(name) is None]:
        raise MissingError(f"training needs {', '.join(missing)}: `pip install 'datastill[lm]'`")


def check_device(section: str, *, needs_cuda: bool) -> None:
    """Fail before any work where the student cannot train.

    Raises:
        MissingError: the student needs CUDA, and the stage would run on the CPU.
    """
    if needs_cuda and device_type() != "cuda":
        raise MissingError(
            f"{section}.needs_cuda: this student trains on CUDA only, and there is no CUDA device to train on; run on "
            "a machine with a GPU, choose a smaller model, or set needs_cuda=false"
        )


def n_processes() -> int:
    """`$DATASTILL_PROCESSES`, by default 1.

    Raises:
        ParamsError: it is not a positive whole number.
    """
    named = os.environ.get("DATASTILL_PROCESSES") or "1"
    if not named.isdecimal() or int(named) < 1:
        raise ParamsError(f"$DATASTILL_PROCESSES: expected a positive whole number (got {named!r})")
    return int(named)
