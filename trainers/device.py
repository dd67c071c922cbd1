"""Whether students can train here. Machine facts, never parameters."""

from importlib.util import find_spec

from datagen.backends.transformers_models import device_type
from datagen.contracts.errors import MissingError


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
