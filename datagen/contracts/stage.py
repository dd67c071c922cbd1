"""How a stage runs: arguments, params, locks, logging, progress, metrics, exit codes.

A stage module describes itself in `STAGE` and ends on `raise SystemExit(main(STAGE))`. So it runs as
`python -m datagen.stages.traces` and as `datastill traces`, under DVC and without.
"""

import argparse
import contextlib
import gc
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import re
import resource
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from datagen.contracts import params as params_module
from datagen.contracts.dataset import is_dataset, write_json
from datagen.contracts.energy import Counter, joules_since, read_counters
from datagen.contracts.errors import DatastillError, MissingError, ParamsError
from datagen.contracts.home import home
from datagen.contracts.locks import held
from datagen.contracts.params import Parts
from datagen.contracts.version import SECTION as VERSION_SECTION
from datagen.contracts.version import version_problems

PACKAGES = ("datagen", "condense", "trainers")
DEFAULT_CONCURRENCY = 16
OBJECTS_A_COLLECTION = 10_000  # Python's own is 700
_LOG_EVERY_S = 60.0
_DRAW_EVERY_S = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage module offers.

    Attributes:
        name: of the module, the params section and the command.
        parse: validates a section; must not import what is slow to import.
        inputs: argument name to help; each is required.
        optional_inputs: those that may be left out.
        run: does the work and returns the metrics that people compare; no times among them.
        needs_out: whether there must be a place for what it writes; one that gives metrics besides may do without.
    """

    name: str
    parse: Callable[[Mapping[str, Any]], Parts]
    inputs: Mapping[str, str]
    run: Callable[["Run"], Mapping[str, Any]]
    optional_inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    needs_out: bool = True


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a stage.

    Attributes:
        params: the validated section.
        inputs: argument name to path, for those that were given.
        out: what the stage must write.
        concurrency: requests in flight at once, a machine fact.
        facts: what the run's own metrics (`NAME.run.json`) hold besides time and memory: retries, cache hits, tokens.
    """

    name: str
    params: Parts
    inputs: Mapping[str, Path]
    out: Path
    concurrency: int = DEFAULT_CONCURRENCY
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @contextlib.contextmanager
    def progress(self, total: int | None, unit: str) -> Generator["Progress"]:
        """A progress bar on a terminal, a log line a minute elsewhere."""
        bar = Progress(self.name, total, unit)
        try:
            yield bar
        finally:
            bar.close()


class Progress:
    """Counts what is done, and shows it."""

    def __init__(self, name: str, total: int | None, unit: str, log_every_s: float = _LOG_EVERY_S) -> None:
        self._name, self._total, self._unit, self._log_every_s = name, total, unit, log_every_s
        self._start = self._shown = time.monotonic()
        self.done = 0
        self._unseen: str | Callable[[], str] | None = None  # the last note, where it was too soon to show it
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(), console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(f"{name} {unit}", total=total, note="")

    def advance(self, n: int = 1, note: str | Callable[[], str] = "") -> None:
        """`n` more are done; `note`, or what it returns whenever it is needed, is shown beside the count.

        Any thread may call it, but one alone with another `n` than 0.
        """
        if n:
            self.done += n
        now = time.monotonic()
        if now - self._shown < (_DRAW_EVERY_S if self._bar else self._log_every_s):
            self._unseen = note
            return
        self._shown, self._unseen = now, None
        self._show(note)

    def close(self) -> None:
        """Show how it ended on the bar, and take that away."""
        if self._bar:
            if self._unseen is not None:
                self._show(self._unseen)
            self._bar.stop()

    def _show(self, note: str | Callable[[], str]) -> None:
        text = note if isinstance(note, str) else note()
        if self._bar:
            self._bar.update(self._task, completed=self.done, note=text)
            return
        per_second = self.done / (self._shown - self._start)
        left = f", {_duration((self._total - self.done) / per_second)} left" if self._total and self.done else ""
        log.info(
            "%s: %d of %s %s%s, %.1f a second, %s",
            self._name, self.done, self._total or "?", self._unit, left, per_second, text,
        )  # fmt: skip


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else "less than a minute"


def main(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """Run a stage from a command line; returns the exit code."""
    arguments = _parser(stage).parse_args(argv)
    start, counters = time.monotonic(), read_counters()
    _collect_seldom()
    _wake_by_ctrl_c()
    try:
        _die_with_dvc()
        _check_interpreter()
        with contextlib.ExitStack() as scratch:
            if arguments.out is None:
                arguments.out = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="datastill-")), "out")
            run = _prepare(stage, arguments)
            scratch.enter_context(locked(run.out))
            configure_logging()
            log.info("%s: start, writes %s", stage.name, run.out)
            metrics = dict(stage.run(run))
        if arguments.metrics:
            write_json(arguments.metrics, metrics)
            write_json(arguments.metrics.with_suffix(".run.json"), _run_facts(run, start, counters))
        log.info("%s: done in %.1f s: %s", stage.name, time.monotonic() - start, json.dumps(metrics))
        return 0
    except DatastillError as error:
        sys.stderr.write(f"{stage.name}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{stage.name}: stopped; what was done is kept, run it again to go on\n")
        return 128 + signal.SIGINT


def _collect_seldom() -> None:
    """What is imported stays, and an event loop makes few cycles: looking for garbage was 5 % of a run's CPU."""
    gc.freeze()
    gc.set_threshold(OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])


def _wake_by_ctrl_c() -> None:
    """Put Python's handler of Ctrl-C back in the place that polars takes: by its own, no wait for an answer ends."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where a shell has it ignored
    if is_ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def find_stages() -> dict[str, str]:
    """Stage name to module, found by folder, without importing any."""
    return {
        file.stem: f"{package}.stages.{file.stem}" for package in PACKAGES for file in _modules(f"{package}.stages")
    }


def load_stage(name: str) -> Stage:
    """The stage of that name.

    Raises:
        ParamsError: there is none; the message lists those there are.
    """
    found = find_stages()
    if name not in found:
        raise ParamsError(f"no stage {name!r}; there are {', '.join(sorted(found))}")
    return importlib.import_module(found[name]).STAGE


def find_methods(family: str) -> list[str]:
    """Names of a family's methods: its modules that define a function named like their file."""
    return [file.stem for file in _modules(family) if _is_method(file)]


def _is_method(file: Path) -> bool:
    return bool(re.search(rf"^(async )?def {file.stem}\(", file.read_text(encoding="utf-8"), re.MULTILINE))


def load_method(family: str, name: object, *, key: str = "method") -> ModuleType:
    """The module of one method, such as `load_method("datagen.verify", "math_answer")`; no other is imported.

    Args:
        family: the package whose modules are the methods.
        name: what the params say.
        key: the parameter that says it, for the error.

    Raises:
        ParamsError: there is none; the message lists those there are.
        MissingError: it needs a package that is not installed.
    """
    if not any(file.stem == name and _is_method(file) for file in _modules(family)):
        raise ParamsError(f"{key}: no {name!r} in {family}; there are {', '.join(find_methods(family))}")
    try:
        return importlib.import_module(f"{family}.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in PACKAGES:
            raise
        raise MissingError(
            f"{family}.{name} needs the package {error.name}; `datastill doctor` says how to get it"
        ) from None


def _modules(package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    folders = spec.submodule_search_locations if spec else None
    return sorted(p for folder in folders or () for p in Path(folder).glob("*.py") if not p.stem.startswith("_"))


def _parser(stage: Stage) -> argparse.ArgumentParser:
    module = sys.modules[stage.parse.__module__]
    parser = argparse.ArgumentParser(
        prog=f"datastill {stage.name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for required, inputs in ((True, stage.inputs), (False, stage.optional_inputs)):
        for name, text in inputs.items():
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                dest=f"input_{name}",
                type=Path,
                required=required,
                help=text,
                metavar="PATH",
            )
    parser.add_argument("--out", type=Path, required=stage.needs_out, help="what to write", metavar="DIR")
    parser.add_argument("--params", type=Path, help="params file to read the section from", metavar="FILE")
    parser.add_argument("--section", default=stage.name, help="section of the params file (default: %(default)s)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], help="parameters, over those of the file", metavar="KEY=VALUE"
    )
    parser.add_argument("--metrics", type=Path, help="where to write the metrics", metavar="FILE")
    parser.add_argument(
        "--concurrency", type=int, default=os.environ.get("DATASTILL_CONCURRENCY", DEFAULT_CONCURRENCY),
        help="requests in flight at once (default: $DATASTILL_CONCURRENCY or %(default)s)",
    )  # fmt: skip
    return parser


def _prepare(stage: Stage, arguments: argparse.Namespace) -> Run:
    sections: dict[str, dict[str, Any]] = {}
    if arguments.params:
        sections = params_module.load_file(arguments.params)
        if arguments.section not in sections:
            raise ParamsError(f"{arguments.params}: no section {arguments.section!r}; there are {', '.join(sections)}")
    overrides = params_module.parse_assignments(arguments.set)
    mine = sections.get(arguments.section, {}) | overrides
    if problems := check_sections(sections | {arguments.section: mine}, own=(arguments.section, stage)):
        source = arguments.params or "--set"
        raise ParamsError("\n".join(f"{source}: {problem}" for problem in problems))
    inputs = {
        name: path
        for name in (*stage.inputs, *stage.optional_inputs)
        if (path := getattr(arguments, f"input_{name}")) is not None
    }
    if arguments.concurrency < 1:
        raise ParamsError(f"--concurrency: expected at least 1 (got {arguments.concurrency})")
    return Run(
        name=stage.name,
        params=stage.parse(mine),
        inputs=inputs,
        out=check_out(arguments.out, inputs.values()),
        concurrency=arguments.concurrency,
    )


def check_sections(sections: Mapping[str, Mapping[str, Any]], own: tuple[str, Stage] | None = None) -> list[str]:
    """Every problem of a params file's sections, `SECTION.KEY: what`; a section is `STAGE` or `STAGE_more`.

    A stage checks the whole file, so that what a later stage would refuse is said before the first one spends.
    """
    problems: list[str] = []
    for section, content in sections.items():
        if own and section == own[0]:
            problems += check_section(section, content, own[1])
            continue
        try:
            problems += check_section(section, content)
        except MissingError as error:
            log.debug("%s not checked: %s", section, error)
    return problems


def check_section(section: str, content: Mapping[str, Any], stage: Stage | None = None) -> list[str]:
    """Every problem of one section; `stage` is the one that its name says, unless given.

    Raises:
        MissingError: its method needs a package that is not installed, so nothing can be said.
    """
    if section == VERSION_SECTION:
        return version_problems(content)
    try:
        stage = stage or load_stage(_stage_of(section))
    except ParamsError as error:
        return [f"{section}: {error}"]
    try:
        stage.parse(content)
    except ParamsError as error:
        return [f"{section}.{line}" for line in str(error).splitlines()]
    return []


def _stage_of(section: str) -> str:
    names = [name for name in find_stages() if section == name or section.startswith(f"{name}_")]
    return max(names, key=len, default=section)


def _check_interpreter() -> None:
    root = os.environ.get("DVC_ROOT")
    expected = Path(root) / ".venv" if root else None
    if expected and expected.is_dir() and Path(sys.prefix).resolve() != expected.resolve():
        raise MissingError(
            f"started by {sys.executable}, but the project has {expected}; put {expected}/bin first on PATH"
        )


def _die_with_dvc() -> None:
    """Under DVC, end when DVC or the shell that it started ends, even by SIGKILL; run by hand, outlive the terminal.

    Process descriptors rather than PR_SET_PDEATHSIG, which sees the parent alone: DVC may stand behind a shell.
    """
    if "DVC_ROOT" not in os.environ:
        return
    ancestors = _ancestors_to_dvc()
    try:
        end_with_any(ancestors)
    except ProcessLookupError:
        ancestors = []
    if not ancestors:
        raise MissingError("DVC_ROOT is set, but the process that started this stage is gone; run `dvc repro` again")


def end_with_any(processes: Sequence[int]) -> None:
    """End this process, by SIGKILL, as soon as one of these ends.

    Raises:
        ProcessLookupError: one has ended already.
    """
    poller = select.poll()
    for pid in processes:
        poller.register(os.pidfd_open(pid), select.POLLIN)

    def watch() -> None:
        poller.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _ancestors_to_dvc() -> list[int]:
    """The parent and its parents up to the first that is DVC; the parent alone where none is."""
    chain: list[int] = []
    pid = os.getppid()
    while pid > 1:
        chain.append(pid)
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(os.path.basename(word) == b"dvc" for word in command[:4]):
                return chain
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return chain[:1]
    return chain[:1]


def check_out(out: Path, inputs: Iterable[Path]) -> Path:
    """The directory to write: `out`, or what it links to.

    Raises:
        ParamsError: it is a file or one of `inputs`, holds one of them or what no stage wrote, or cannot be written.
    """
    if out.is_symlink():
        out = out.resolve()
    if out.name in ("", ".."):
        raise ParamsError(f"--out {out}: name the directory to write, such as {out / 'traces'}")
    if out.exists() and not out.is_dir():
        raise ParamsError(f"--out {out}: is a file; name a directory")
    for read in inputs:
        if out.resolve() in (read.resolve(), *read.resolve().parents):
            raise ParamsError(f"--out {out}: would replace the input {read}; name another directory")
    if out.is_dir() and not is_dataset(out) and any(out.iterdir()):
        raise ParamsError(f"--out {out}: holds files that no stage wrote; name another directory, or empty this one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ParamsError(f"--out {out}: cannot be written ({error.strerror}); name another place") from None
    return out


@contextlib.contextmanager
def locked(out: Path) -> Generator[None]:
    """Keep other processes from writing `out`.

    Raises:
        LockedError: another process writes it.
        MissingError: the folder of the locks cannot be written.
    """
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    path = home() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise MissingError(
            f"{path.parent}: cannot be written ({error.strerror}); set DATASTILL_HOME to a folder that can"
        ) from None
    with held(file, f"{out} is being written by"):
        yield


def configure_logging() -> None:
    """Our own progress and everyone's warnings, on stderr."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[handler])
    for package in PACKAGES:  # of other libraries, warnings alone
        logging.getLogger(package).setLevel(logging.INFO)


def _run_facts(run: Run, start: float, counters: Mapping[str, Counter]) -> dict[str, Any]:
    joules = joules_since(counters, read_counters(), time.monotonic() - start)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (
        run.facts
        | ({} if joules is None else {"joules": joules})
        | {
            "seconds": round(time.monotonic() - start, 3),
            "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in usage), 3),
            "peak_memory_bytes": max(u.ru_maxrss for u in usage) * 1024,
        }
    )
