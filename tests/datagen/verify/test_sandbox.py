"""Escapes from the sandbox. Oracle of each: the same program, run without one, does what it must not (`reached`)."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from datagen.contracts.code_tests import Case
from datagen.contracts.errors import MissingError
from datagen.verify import _sandbox
from datagen.verify._test_runs import Limits, Outcome, run_case

MEMORY = 512 * 2**20


@pytest.fixture(autouse=True)
def bwrap(needs: Callable[..., None]) -> None:
    needs(program="bwrap", remedy="apt-get install bubblewrap")


def run(code: str, *, cpu_s: float = 3.0) -> Outcome:
    """A pass would be an escape."""
    return run_case(code, Case(stdin="", stdout="reached"), Limits(cpu_s=cpu_s, memory_bytes=MEMORY))


def plain(code: str, cwd: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60).stdout


SYSCALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
ESCAPES = {
    "a host's file": "open('{here}/secret').read()",
    "the home folder": "import os; assert os.listdir('{here}')",
    "passwords' file": "open('/etc/passwd').read()",
    "the project's code": f"open({__file__!r}).read()",
    "a write beside itself": "open('{here}/new', 'w').write('x')",
    "a write into the libraries": "import os; d = os.path.dirname(os.__file__); assert os.access(d, os.W_OK)",
    "a write into the root": "import tempfile; tempfile.TemporaryFile(dir='/')",
    "a symlink that leads out": (
        "import os, tempfile; os.chdir(tempfile.mkdtemp()); os.symlink('{here}/secret', 'l'); open('l').read()"),
    "a path that leads out": "open('/tmp/../../../../..{here}/secret').read()",
    "a network connection": "import socket; socket.create_connection(('127.0.0.1', {port}), 3)",
    "a socket in the file system": "import socket; s = socket.socket(socket.AF_UNIX); s.connect('{here}/socket')",
    "an abstract socket": "import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{here}')",
    "the environment": "import os; os.environ['PLANTED']",
    "the host's processes": "import os; os.listdir('/proc/{pid}')",
    "a signal to the host": "import os; os.kill({pid}, 0)",
    "another process": "import os; pid = os.fork(); os.waitpid(pid, 0) if pid else os._exit(0)",
    "another process by vfork": "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)",
    "a shell": "import subprocess; subprocess.run(['/bin/sh', '-c', ':'], check=True)",
    "ptrace of itself": SYSCALL + "assert libc.ptrace(0, 0, 0, 0) == 0",
    "another's memory": SYSCALL + (
        "import os, struct\nb = ctypes.create_string_buffer(1)\n"
        "v = ctypes.create_string_buffer(struct.pack('PN', ctypes.addressof(b), 1))\n"
        "assert libc.process_vm_readv(os.getpid(), v, 1, v, 1, 0) == 1"),
    "memory that no limit counts": "import os; os.memfd_create('x')",
    "/proc": "open('/proc/self/status').read()",
    "more memory": f"x = bytearray({4 * MEMORY})",
    "a large file": "import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.truncate(40 << 20)",
    "a full disk": (
        "import os, shutil, tempfile\nd = tempfile.mkdtemp()\ntry:\n    for i in range(12):\n"
        "        with open(os.path.join(d, str(i)), 'wb') as f: f.write(bytes(8 << 20))\n"
        "finally:\n    shutil.rmtree(d)"),
    "shared memory's folder": "import tempfile; tempfile.TemporaryFile(dir='/dev/shm')",
    "a device": "open('/dev/zero').close()",
    "a higher limit": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))",
    "many open files": "x = [open('/dev/null') for _ in range(100)]",
}  # fmt: skip
AS_ROOT = {
    "another user": "import os; os.setuid(12345)",
    "a mount": SYSCALL + "assert libc.unshare(0x00020000) == 0",
    "a namespace": SYSCALL + "assert libc.unshare(0x10000000) == 0",
    "a root of its own": "import os; os.chroot('/tmp')",
    "the host's name": "import socket; socket.sethostname(socket.gethostname())",
    "the kernel's log": SYSCALL + "assert libc.klogctl(10, None, 0) >= 0",
    "a device made": (
        "import os, stat, tempfile; os.mknod(tempfile.mkdtemp() + '/n', stat.S_IFCHR | 0o600, os.makedev(1, 3))"
    ),
}


@pytest.mark.parametrize("name", [*ESCAPES, *AS_ROOT])
def test_no_escape(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if name in AS_ROOT and os.getuid():
        pytest.skip("what root alone can do without a sandbox: run the tests as root")
    monkeypatch.setenv("PLANTED", "value")
    (tmp_path / "secret").write_text("planted")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        named.bind(str(tmp_path / "socket"))
        abstract.bind(f"\0{tmp_path}")
        named.listen()
        abstract.listen()
        facts = {"here": tmp_path, "port": server.getsockname()[1], "pid": os.getpid()}
        code = (ESCAPES | AS_ROOT)[name]
        for key, value in facts.items():
            code = code.replace(f"{{{key}}}", str(value))
        code += "\nprint('reached')"
        assert plain(code, tmp_path) == "reached\n", "the probe itself does not work"
        (tmp_path / "new").unlink(missing_ok=True)
        outcome = run(code)
    assert outcome.code in {"exception", "exited", "crashed"}, outcome
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("code", "codes"),
    [
        ("while True: pass", {"timeout"}),
        ("import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass", {"crashed", "timeout"}),
        ("import time\ntime.sleep(1000)", {"timeout"}),
        ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"timeout"}),
        ("import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(99,)).start()\n"
         "    except (RuntimeError, MemoryError): pass", {"timeout", "crashed", "exited", "exception"}),
        ("x = []\nwhile True: x.append(bytes(1 << 20))", {"exception"}),
        ("x = 'a'\nwhile True: x += x", {"exception"}),
        ("x = 9\nwhile True: x = x ** x", {"timeout"}),
        ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", {"timeout"}),
        ("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): return [f()]\nf()", {"crashed", "exception", "timeout"}),
        ("def f(): return f()\nf()", {"exception"}),
        ("while True: print('x' * 10000)", {"output_limit"}),
        ("import sys\nwhile True: sys.stderr.write('x' * 10000)", {"output_limit"}),
        ("import os\nfor n in range(99999):\n    with open(f'/tmp/{n}', 'wb') as f: f.write(bytes(1 << 20))",
         {"exception"}),
        ("import os\nwhile True: os.makedirs('/tmp/' + '/'.join(['d'] * 500), exist_ok=True); os.chdir('/tmp/d')",
         {"timeout", "exception"}),
        ("import os\nos.kill(1, 9)\ntry: os.kill(-1, 9)\nexcept OSError: pass\nos.abort()", {"crashed"}),
        ("import os\nos.close(1); os.closerange(0, 99)", {"wrong_answer", "exited"}),
    ],
)  # fmt: skip
def test_what_takes_all_ends_at_its_limits(code: str, codes: set[str]):
    """Bombs of every kind end by the limit that is meant for them, and leave no process behind."""
    start = time.monotonic()
    outcome = run(code, cpu_s=0.5 if "timeout" in codes else 7.0)  # time enough for the limit that is meant
    assert outcome.code in codes, outcome
    assert time.monotonic() - start < 30
    assert not psutil.Process().children(recursive=True)


def test_it_ends_with_a_killed_starter(tmp_path: Path):
    """SIGKILL to the process that verifies; seen from outside, by psutil."""
    code = "import time\ndef f(x):\n    time.sleep(1000)"
    program = textwrap.dedent(f"""
        from datagen.contracts.records import Prompt, Trace
        from datagen.verify.code_execution import Config, code_execution
        prompt = Prompt(id="a", messages=[], tests={json.dumps({"asserts": ["assert f(1)"]})!r})
        list(code_execution(Config(timeout_s=100), [Trace(id="a", prompt=prompt, completion={code!r})] * 2))
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"DATASTILL_WORKERS": "2"})
    try:
        seen = psutil.Process(parent.pid)
        deadline = time.monotonic() + 60
        # two workers, each with two sandboxes of bwrap, its init and the interpreter
        while len(below := seen.children(recursive=True)) < 2 + 2 * 2 * 3:
            assert parent.poll() is None and time.monotonic() < deadline, below
            time.sleep(0.05)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


def test_without_a_sandbox_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No program of that name, then one that cannot start, as where user namespaces are forbidden."""
    _sandbox.check_sandbox.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt-get install bubblewrap"):
        _sandbox.check_sandbox()
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(MissingError, match=r"No permissions to create new namespace.*never run without.*sysctl"):
        _sandbox.check_sandbox()


def test_the_filter_is_the_kernel_s(needs: Callable[..., None]):
    """Every refused call, by its number in this machine's own headers where they are installed."""
    header = next(Path("/usr/include").glob("*/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h"))
    needs(path=str(header), remedy="apt-get install linux-libc-dev")
    numbers = {
        words[1].removeprefix("__NR_").removeprefix("__NR3264_"): int(words[2])
        for line in header.read_text().splitlines()
        if len(words := line.split()) == 3 and words[1].startswith("__NR") and words[2].isdecimal()
    }
    machine = os.uname().machine
    known = {name: number for name, number in _sandbox._REFUSED[machine].items() if name in numbers}
    assert len(known) > 20
    assert known == {name: numbers[name] for name in known}


def test_a_process_with_many_open_files_judges_all_the_same():
    """1,100 of them, so that the pipes' numbers are above 1,024, which select() does not take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert run("print('reached')").code == "pass"
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
