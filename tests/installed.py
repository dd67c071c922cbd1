"""datastill as users have it: its wheel in an environment of its own, away from the checkout."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path, first_on_path: Path | None = None) -> str:
    """What a command says, without this process's settings; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DVC_", "DATASTILL_"))}
    environment |= {"XDG_CACHE_HOME": str(cwd / "cache")}
    if first_on_path:
        environment["PATH"] = f"{first_on_path}:{environment['PATH']}"
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("datastill-*.whl")
    return built


def install(wheel: Path, folder: Path) -> Path:
    """A virtual environment with the wheel, what it depends on taken from here; its folder of programs."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A path in a .pth file brings packages, but not this checkout's own .pth.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert Path(run(python, "-c", "import datagen; print(datagen.__file__)", cwd=folder).strip()).is_relative_to(site)
    # DVC with this environment's interpreter
    dvc = python.with_name("dvc")
    dvc.write_text(f"#!{python}\nfrom dvc.cli import main\nraise SystemExit(main())\n")
    dvc.chmod(0o755)
    return python.parent
