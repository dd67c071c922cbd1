"""What all tests share."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["OMP_NUM_THREADS"] = "1"  # rounding goes by it: what a test runs in a process of its own must be as here

# Seeds fixed, and no clock: the machine may be busy.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """In this process too, whatever a stage set in the test before."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def own_precision() -> Iterator[None]:
    """Accelerate keeps a process's first precision for good, so that a later training in another one would fail."""
    yield
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def needs() -> Callable[..., None]:
    """`needs(program="bwrap", remedy="apt-get install bubblewrap")`; `module` and `path` likewise.

    Skips the test where one of them is missing, saying which and how to get it; under `$CI`, where nothing may be
    missing, it fails the test.
    """

    def check(*, program: str = "", module: str = "", path: str = "", remedy: str) -> None:
        here = (
            (f"program {program}", not program or shutil.which(program)),
            (f"module {module}", not module or importlib.util.find_spec(module)),
            (f"path {path}", not path or (ROOT / path).exists()),
        )
        missing = [what for what, found in here if not found]
        if missing:
            end = pytest.fail if os.environ.get("CI") else pytest.skip
            end(f"needs {', '.join(missing)}: {remedy}")

    return check
