"""Hostile checks and answers for `benchmarks.verify`: what each does to the process that it runs in is known."""

import os
import re
import sys
import time
from typing import Any


def trivial(number: int) -> int:
    """A check that passes."""
    return number + 1


def loop() -> None:
    """Never end."""
    while True:
        pass


def take_memory() -> str:
    """A string of 2 GB, returned."""
    return "x" * 2**31


def take_more_memory() -> list[str]:
    """Strings of 2 GB each, without end."""
    return ["x" * 2**31 for _ in range(10**6)]


def fork_bomb() -> None:
    """Fork without end."""
    while True:
        try:
            os.fork()
        except OSError:
            continue


def leave_a_daemon() -> str:
    """Fork twice, away from the session and the group, so that what is left has no parent to wait for it."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return "passed"


def leave_by_exit() -> None:
    """Exit as if all were well."""
    sys.exit(0)


def leave_at_once() -> None:
    """Exit without a word."""
    os._exit(0)


def recurse() -> Any:
    """Call itself deeper than the stack is."""
    sys.setrecursionlimit(10**9)
    return recurse() + 1


def match_for_ever() -> Any:
    """A regular expression that tries 2**60 ways."""
    return re.match("(a+)+$", "a" * 60 + "b")


def power_of_floats() -> float:
    """1e9 ** 1e9, which is no float."""
    return 1e9**1e9


def power_of_integers() -> int:
    """A number of 9 billion digits."""
    return 10**9**10**9


def wait() -> None:
    """Use no time, and never end."""
    time.sleep(10**6)


CHECKS = (
    loop, take_memory, take_more_memory, fork_bomb, leave_a_daemon, leave_by_exit, leave_at_once, recurse,
    match_for_ever, power_of_floats, power_of_integers, wait,
)  # fmt: skip

ANSWERS = (
    "9^{9^{9^{9}}}",
    "(10^9)^{10^9}",
    "1e9 ** 1e9",
    "1e999999999",
    r"10^{10^{10}} \times 10^{10^{10}}",
    "{" * 5000 + "7" + "}" * 5000,
    "{" * 900 + "8" + "}" * 900,
    "(" * 900 + "8" + ")" * 900,
    r"\frac{1}{" * 300 + "8" + "}" * 300,
    r"\sqrt{" * 300 + "8" + "}" * 300,
    "8" * 2**20,
    "x" * 2**20,
    "8," * 2**19,
    "a" * 1900 + "!",
    "1" + " 1" * 900 + "!",
    "1,111" * 300 + "!",
    "+".join(f"x_{{{i}}}" for i in range(150)) + "=(" + "+".join(f"x_{{{i}}}^9" for i in range(80)) + ")^{50}",
    "(x+y+z+w)^{3000}",
    r"\int_0^{\infty} e^{-x^{x^{x}}} \sin(x^{x}) dx",
    r"\sum_{n=1}^{10^{100}} \frac{n!}{n^{n}}",
    "100000000000!",
    "170!!!!!!",
    r"\binom{10^{12}}{5 \cdot 10^{11}}",
    r"\prod_{k=1}^{10^{9}} k",
    r"__import__('os').system('touch /tmp/escaped')",
    r"\text{__import__('os')._exit(0)}",
    r"\begin{pmatrix}" + "&".join("8" * 150) + r"\end{pmatrix}^{99999999}",
    r"\{" + ",".join(f"x+{i}" for i in range(300)) + r"\}",
    "\x00\x01\x02 \ud7ff \N{RIGHT-TO-LEFT OVERRIDE}8",
)
