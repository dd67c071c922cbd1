"""bubblewrap: a process that sees an interpreter, an empty folder and nothing else of this machine.

What it is kept from, and by what (docs/sandbox.md tells what was tried):
    network, other processes, signals     namespaces of its own (user, pid, network, IPC, host name, cgroup)
    files                                 libraries and interpreter, read-only; /tmp in memory, of bounded size; no
                                          /proc, no /sys, no /etc, no home; a root that cannot be written
    environment                           cleared
    privileges                            none: no capability, no new privileges, nobody's user id
    processes, tracing, kernel interfaces a seccomp filter: no further process (threads are allowed), no ptrace, no
                                          namespaces, mounts, keys, BPF, io_uring, or memory that limits do not count
    memory, CPU time, files, threads      limits of the kernel (setrlimit), set before the completion's code runs
    its starter's end                     it ends with the thread that started it, even by SIGKILL

There is no second way: where bubblewrap is missing or cannot start, nothing is run.
"""

import ctypes
import importlib.util
import io
import marshal
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from datagen.contracts.errors import MissingError
from datagen.verify import _wire

FILE_BYTES = 16 * 2**20  # of one file
FOLDER_BYTES = 64 * 2**20  # of all that stands in /tmp
N_FILES = 64  # open at once
N_THREADS = 64  # not counted where the sandbox is started by root; memory bounds them there
_FOLDER = "/code"  # of our own files, inside
_PROGRAM = f"{_FOLDER}/in_sandbox.pyc"
_CODE = {"_in_sandbox.py": _PROGRAM, "_wire.py": f"{_FOLDER}/datagen/verify/_wire.pyc"}
_NOBODY = "65534"
_REMEDIES = (
    "it needs user namespaces: on Debian `sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu an AppArmor profile "
    "for bwrap or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, in Docker `--security-opt "
    "seccomp=unconfined --security-opt apparmor=unconfined`"
)

# Numbers of the system calls that are refused, from the kernel's tables for each machine (asm/unistd.h).
_REFUSED = {
    "x86_64": {
        "fork": 57, "vfork": 58, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
        "move_mount": 429, "open_tree": 428, "fsopen": 430, "fsmount": 432, "mount_setattr": 442,
        "keyctl": 250, "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "memfd_create": 319,
        "memfd_secret": 447, "shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "pidfd_getfd": 438, "kexec_load": 246,
        "init_module": 175, "finit_module": 313, "delete_module": 176, "syslog": 103, "reboot": 169,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "unshare": 97, "setns": 268,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "move_mount": 429, "open_tree": 428,
        "fsopen": 430, "fsmount": 432, "mount_setattr": 442, "keyctl": 219, "add_key": 217, "request_key": 218,
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425, "io_uring_enter": 426,
        "io_uring_register": 427, "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "shmat": 196,
        "msgget": 186, "semget": 190, "mq_open": 180, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "pidfd_getfd": 438, "kexec_load": 104, "init_module": 105, "finit_module": 273, "delete_module": 106,
        "syslog": 116, "reboot": 142,
    },
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CLONE_THREAD = 0x10000  # linux/sched.h
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32_BIT = 0x40000000  # calls of the x32 interface have numbers from here
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000  # linux/seccomp.h
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER_MODE = 22, 38, 2  # linux/prctl.h, linux/seccomp.h


def start(
    role: Literal["solve", "judge", "script"],
    payload: Mapping[str, Any],
    peer: int,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start `_in_sandbox.py` in a sandbox of its own; `peer` is a descriptor that it gets beside the standard ones."""
    content = io.BytesIO()
    _wire.write(content, {"file_bytes": FILE_BYTES, "n_files": N_FILES, "n_threads": N_THREADS, **payload})
    with in_memory(content.getvalue()) as given, _opened() as files:
        command = [*_bwrap(files), _PROGRAM, role, str(given.fileno()), str(peer)]
        given_fds = [*files, given.fileno(), peer]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=given_fds, env={})


@cache
def check_sandbox() -> str:
    """Version of bubblewrap, once a process was started in a sandbox.

    Raises:
        MissingError: there is no bubblewrap, or it cannot start here; the message says what to do.
    """
    program = find_bwrap()
    with _opened() as files:
        command = [*_bwrap(files), "-c", "print('inside')"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=files, env={})
    if done.returncode or done.stdout != "inside\n":
        said = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise MissingError(
            f"{program} cannot start a sandbox here ({said}), and code is never run without one; {_REMEDIES}"
        )
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def find_bwrap() -> str:
    """Path of the program.

    Raises:
        MissingError: there is none, or no filter for this machine.
    """
    if platform.machine() not in _REFUSED:
        raise MissingError(
            f"code is run on {' and '.join(_REFUSED)} alone, whose system calls the sandbox's filter knows (this is "
            f"{platform.machine()})"
        )
    program = shutil.which("bwrap")
    if program is None:
        raise MissingError(
            "no bwrap on PATH, and code is never run without a sandbox: apt-get install bubblewrap, or your system's "
            "package of that name"
        )
    return program


def seccomp_filter() -> bytes:
    """The filter as BPF instructions (struct sock_filter): refused calls fail with EPERM, clone3 with ENOSYS.

    C libraries make a thread by clone where clone3 is missing, and clone says in a register whether it is one.
    """
    machine = platform.machine()
    load, equal, at_least, any_of, end = (
        0x20,
        0x15,
        0x35,
        0x45,
        0x06,
    )  # linux/bpf_common.h: LD|W|ABS, JEQ, JGE, JSET, RET
    refused = sorted(_REFUSED[machine].values())
    code = [
        (load, 0, 0, 4),  # arch
        (equal, 1, 0, _AUDIT_ARCH[machine]),
        (end, 0, 0, _KILL),
        (load, 0, 0, 0),  # number of the call
        (at_least, 0, 1, _X32_BIT),
        (end, 0, 0, _EPERM),
        (equal, 0, 1, _CLONE3),
        (end, 0, 0, _ENOSYS),
        (equal, 0, 4, _CLONE[machine]),
        (load, 0, 0, 16),  # its first argument, the flags
        (any_of, 1, 0, _CLONE_THREAD),
        (end, 0, 0, _EPERM),
        (end, 0, 0, _ALLOW),
    ]
    for number in refused:
        code += [(equal, 0, 1, number), (end, 0, 0, _EPERM)]
    code.append((end, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *one) for one in code)


def refuse_processes() -> None:
    """Refuse this thread, and those that it starts, what the filter refuses: above all, starting a process.

    Raises:
        MissingError: the filter does not know this machine.
        OSError: the kernel does not take it.
    """
    if platform.machine() not in _REFUSED:
        known = " and ".join(_REFUSED)
        raise MissingError(f"checks run on {known} alone, whose system calls the filter knows ({platform.machine()})")
    code = ctypes.create_string_buffer(filter_bytes := seccomp_filter(), len(filter_bytes))
    program = struct.pack("HxxxxxxP", len(filter_bytes) // 8, ctypes.addressof(code))  # struct sock_fprog
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value, given in ((_PR_SET_NO_NEW_PRIVS, 1, None), (_PR_SET_SECCOMP, _FILTER_MODE, program)):
        if prctl(option, ctypes.c_ulong(value), given, ctypes.c_ulong(0), ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")


@contextmanager
def _opened() -> Iterator[list[int]]:
    """Descriptors of the filter and of each of `_CODE`, for one start."""
    with ExitStack() as stack:
        contents = [seccomp_filter(), *map(_compiled, _CODE)]
        yield [stack.enter_context(in_memory(content)).fileno() for content in contents]


@cache
def _compiled(name: str) -> bytes:
    """A file beside this one as compiled code, in the format of a .pyc file (PEP 552): half the time of a start."""
    source = Path(__file__).with_name(name).read_text(encoding="utf-8")
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _bwrap(files: Sequence[int]) -> list[str]:
    """The command up to the interpreter's arguments; `files` as `_opened` has them."""
    code = zip(files[1:], _CODE.values(), strict=True)
    return [
        find_bwrap(),
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "sandbox"),
        *("--clearenv", "--setenv", "LANG", "C.UTF-8", "--setenv", "HOME", "/tmp", "--setenv", "PYTHONHASHSEED", "0"),
        *("--setenv", "PYTHONPATH", _FOLDER),
        *_files(),
        *(word for fd, path in code for word in ("--ro-bind-data", str(fd), path)),
        *("--remount-ro", "/", "--chdir", "/tmp", "--seccomp", str(files[0])),
        *("--", os.path.realpath(sys.executable), "-s", "-S", "-P", "-B"),
    ]


@cache
def _files() -> Sequence[str]:
    """Libraries and the interpreter, read-only, at the paths where they are; /tmp and two devices."""
    prefix = Path(sys.base_prefix)
    words: list[str] = []
    shown: list[Path] = []
    folders = [*(Path(f"/usr/{name}") for name in ("lib", "lib64")), *(prefix / name for name in ("lib", "lib64"))]
    for path in [Path("/lib"), Path("/lib64"), *folders, Path(os.path.realpath(sys.executable))]:
        if path.is_symlink() and path.is_dir():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.exists() and not any(path.is_relative_to(folder) for folder in shown):
            words += ["--ro-bind", str(path), str(path)]
            shown.append(path)
    for device in ("/dev/null", "/dev/urandom"):
        words += ["--dev-bind", device, device]
    return [*words, "--size", str(FOLDER_BYTES), "--tmpfs", "/tmp"]


def in_memory(content: bytes) -> Any:
    """An open file that has no name, at its start."""
    file = os.fdopen(os.memfd_create("payload"), "w+b")
    file.write(content)
    file.seek(0)
    return file
