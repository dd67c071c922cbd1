"""Keeps a server: starts a command, and ends it with everything that it started.

Run as `python _vllm_keeper.py PARENT_PID COMMAND...`, by the standard library alone. PR_SET_PDEATHSIG would reach the
command but not its children, which a killed server leaves running with the device's memory in their hands. So this
process adopts them (PR_SET_CHILD_SUBREAPER), watches the parent and the command, and when either ends, or SIGTERM
comes, it ends all of them. It exits with the command's code, or 128 plus the signal that ended the command.

Source: prctl(2), pidfd_open(2).
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
GRACE_S = 20.0  # for a server to remove its shared memory after SIGTERM
KILL_S = 60.0  # a process that waits for a device dies late
POLL_S = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


def keep(parent: int, command: list[str]) -> int:
    """Run `command` until it ends, or `parent` does, or SIGTERM comes; nothing that it started is left."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        parent_end = os.pidfd_open(parent)
    except ProcessLookupError:
        return 1
    if os.getppid() != parent:
        return 1
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)
    server_end = os.pidfd_open(server.pid)
    poller = select.poll()
    for descriptor in (reading, parent_end, server_end):
        poller.register(descriptor, select.POLLIN)
    poller.poll()
    if server.poll() is None:
        server.terminate()
        select.select([server_end], [], [], GRACE_S)
    code = server.poll()
    deadline = time.monotonic() + KILL_S
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            _kill(pid)
        _reap()
        time.sleep(POLL_S)
    code = -signal.SIGKILL if code is None else code
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended meanwhile
        return


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:  # none is left
        return


def descendants(root: int) -> list[int]:
    """Every process that `root` has started, or that one of those has, and that still runs."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    raise SystemExit(keep(int(sys.argv[1]), sys.argv[2:]))
