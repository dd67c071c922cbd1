"""What runs inside the sandbox: a completion's code, and in another sandbox the tests of it.

`solve` runs the completion and answers for its names; `judge` runs the tests, whose code never meets the completion's:
a name that the tests use and the completion defines is a Proxy there, and only plain values (and references to objects
that stay where they are) cross between the two, by a codec that builds nothing but what stands in it. So the judge's
builtins, its assert statement and its comparisons are Python's own, whatever the completion did to its own process;
what it can do is answer a call with a value. `script` runs the completion as a program that reads and writes.

It imports `_wire` and of the standard library what every start can afford: each row starts it twice.
"""

from __future__ import annotations

import _signal  # pyright: ignore[reportMissingImports]  # signal itself loads enum, half the time of a start
import builtins
import os
import resource
import sys

from datagen.verify import _wire

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

MAX_MESSAGE_BYTES = 16 * 2**20
_MAX_DETAIL = 300  # characters
# Types that are rebuilt from arguments, beside the containers: how to take them apart, and what makes one again.
_REBUILT: dict[str, tuple[Callable[[Any], Sequence[Any]], str]] = {
    "builtins.bytes": (lambda value: [value.hex()], "bytes.fromhex"),
    "builtins.bytearray": (lambda value: [value.hex()], "bytearray.fromhex"),
    "builtins.complex": (lambda value: [value.real, value.imag], "complex"),
    "builtins.range": (lambda value: [value.start, value.stop, value.step], "range"),
    "collections.Counter": (lambda value: [dict(value)], "Counter"),
    "collections.OrderedDict": (lambda value: [dict(value)], "OrderedDict"),
    "collections.deque": (lambda value: [list(value), value.maxlen], "deque"),
    "datetime.date": (lambda value: [value.isoformat()], "date.fromisoformat"),
    "datetime.datetime": (lambda value: [value.isoformat()], "datetime.fromisoformat"),
    "datetime.time": (lambda value: [value.isoformat()], "time.fromisoformat"),
    "datetime.timedelta": (lambda value: [value.days, value.seconds, value.microseconds], "timedelta"),
    "decimal.Decimal": (lambda value: [str(value)], "Decimal"),
    "fractions.Fraction": (lambda value: [value.numerator, value.denominator], "Fraction"),
}
_CLASSES = {one.__name__: one for one in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)}
_CONTAINERS: dict[str, type[Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class Stop(BaseException):
    """The test at hand is over, whatever its own code catches: an outcome and a detail."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome, self.detail = outcome, detail


def _forwarded(op: str) -> Callable[..., Any]:
    def method(self: Proxy, *args: object) -> Any:
        return self._peer.ask(op, self._n, args)

    return method


class Proxy:
    """An object that lives at the peer. It is equal to itself alone, and no value's like."""

    __slots__ = ("_n", "_peer")

    def __init__(self, peer: Peer, n: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_n", n)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._peer.ask("call", self._n, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._peer.ask("get", self._n, (name,))

    def __setattr__(self, name: str, value: object) -> None:
        self._peer.ask("set", self._n, (name, value))

    __getitem__ = _forwarded("item")
    __setitem__ = _forwarded("set_item")
    __len__ = _forwarded("len")
    __iter__ = _forwarded("iter")
    __next__ = _forwarded("next")
    __bool__ = _forwarded("bool")
    __str__ = _forwarded("str")
    __repr__ = _forwarded("repr")

    def __hash__(self) -> int:
        return self._n

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Proxy):
            return self is other
        detail = "compares two objects of the completion's own classes, whose equality the completion would decide"
        raise self._peer.stop_by("unsupported", detail)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda on, *args, **kwargs: on(*args, **kwargs),
    "get": getattr,
    "set": setattr,
    "item": lambda on, key: on[key],
    "set_item": lambda on, key, value: on.__setitem__(key, value),
    **{function.__name__: function for function in (len, iter, next, bool, str, repr)},
}


class Peer:
    """One end of the connection between judge and solution: calls in both directions.

    A value is itself where it is None, bool, int, float or str, else a list of a tag and its parts: `["tuple", 1, 2]`;
    `["mine", n]` is an object that stays with the sender, `["yours", n]` one of the receiver's that comes back.
    """

    def __init__(self, descriptor: int) -> None:
        self._in = os.fdopen(descriptor, "rb")
        self._out = os.fdopen(os.dup(descriptor), "wb")
        self._mine: list[object] = []  # kept alive, so that an id stays its object's
        self._numbers: dict[int, int] = {}
        self._theirs: dict[int, Proxy] = {}
        self.is_judge = False
        self.touched = False
        self.last: list[Any] = []  # what the completion gave last, and that as it was sent
        self.stopped: Stop | None = None

    def send(self, message: Mapping[str, Any]) -> None:
        try:
            _wire.write(self._out, message)
        except OSError:
            raise self.stop_by("ended", "the completion ended its process") from None

    def receive(self) -> dict[str, Any]:
        try:
            message = _wire.read(self._in, MAX_MESSAGE_BYTES)
        except (EOFError, OSError):
            raise self.stop_by("ended", "the completion ended its process") from None
        except Exception as error:
            raise self.stop_by("ended", f"no result that can be read ({type(error).__name__}: {error})") from None
        return message if isinstance(message, dict) else {}

    def stop_by(self, outcome: str, detail: str) -> Stop:
        """What to raise; noted, so that a test that catches everything does not pass."""
        self.stopped = self.stopped or Stop(outcome, detail)
        return self.stopped

    def ask(self, op: str, on: int | str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """The result of an operation on the peer's object `on`; mutable arguments have what it made of them.

        Raises:
            Exception: the builtin exception that it raised there, or the nearest that is builtin.
            Stop: there is no result.
        """
        self.touched = True
        named = {name: self.encode(value) for name, value in (kwargs or {}).items()}
        self.send({"op": op, "on": on, "args": [self.encode(value) for value in args], "kwargs": named})
        while "op" in (message := self.receive()):
            self.answer(message)
        error = value = None
        try:
            if raised := message.get("raise"):
                error = self._error(raised[0], str(raised[1]), op)
            else:
                for place, content in message.get("after", ()):
                    _restore(args[place] if isinstance(place, int) else (kwargs or {})[place], self.decode(content))
                value = self.decode(message["value"])
                self.last = [value, message["value"]]
        except Exception as failure:
            raise self.stop_by("ended", f"no result that can be read ({type(failure).__name__})") from None
        if error:
            raise error
        return value

    def answer(self, message: Mapping[str, Any]) -> None:
        """Do what the peer asks for, and send what came of it; the judge lets its own functions be called alone."""
        try:
            if self.is_judge and message["op"] != "call":
                raise TypeError("a function of the tests can be called, no more")
            args = [self.decode(value) for value in message["args"]]
            kwargs = {name: self.decode(value) for name, value in message["kwargs"].items()}
            value = _OPERATIONS[message["op"]](self._mine[message["on"]], *args, **kwargs)
            given = [*zip(range(len(args)), message["args"], args, strict=True)]
            given += [(name, message["kwargs"][name], kwargs[name]) for name in kwargs]
            changed = [one for one in given if isinstance(one[2], list | dict | set | bytearray)]
            after = [(place, now) for place, then, held in changed if (now := self.encode(held)) != then]
            reply = {"value": self.encode(value), "after": after}
        except BaseException as error:
            if isinstance(error, Stop):
                raise
            reply = {"raise": _describe(error)}
        self.send(reply)

    def encode(self, value: Any) -> Any:
        """The value as it is sent, of a subclass of a builtin type what it holds; Stop where the tests must keep it."""
        kind = type(value)
        if value is None or kind is bool or kind in (float, str, int):
            return value
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _REBUILT:
            return [name, *map(self.encode, _REBUILT[name][0](value))]
        if isinstance(value, int):
            return int.__add__(value, 0)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, float):
            return float.__float__(value)
        for tag, container in _CONTAINERS.items():
            if isinstance(value, container):
                return [tag, *map(self.encode, container.__iter__(value))]
        if isinstance(value, dict):
            pairs: Any = dict.items(value)
            return ["dict", *([self.encode(key), self.encode(held)] for key, held in pairs)]
        if kind is type and value in _CLASSES.values():
            return ["class", value.__name__]
        if kind is Proxy:
            return ["yours", value._n]
        if self.is_judge and hasattr(value, "__next__"):
            return ["iterator", *map(self.encode, value)]
        if self.is_judge and not (callable(value) and not isinstance(value, type)):
            raise self.stop_by("unsupported", f"hands the completion an object of class {kind.__qualname__}")
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._mine)
            self._mine.append(value)
        return ["mine", self._numbers[id(value)]]

    def decode(self, content: Any) -> Any:
        """The value that was encoded; what cannot be one raises an Exception of any type."""
        if not isinstance(content, list):
            return content
        tag, *parts = content
        if tag == "class":
            return _CLASSES[parts[0]]
        if tag in _CONTAINERS:
            return _CONTAINERS[tag](map(self.decode, parts))
        if tag == "dict":
            return {self.decode(key): self.decode(held) for key, held in parts}
        if tag == "iterator":
            return iter([self.decode(part) for part in parts])
        if tag == "mine":
            return self._theirs.setdefault(int(parts[0]), Proxy(self, int(parts[0])))
        if tag == "yours":
            return self._mine[parts[0]]
        made: Any = __import__(tag.rpartition(".")[0])
        for name in _REBUILT[tag][1].split("."):
            made = getattr(made, name)
        return made(*map(self.decode, parts))

    def _error(self, names: Sequence[str], text: str, op: str) -> BaseException:
        for name in names:
            kind = getattr(builtins, name, None)
            if not isinstance(kind, type) or not issubclass(kind, Exception):
                continue
            if issubclass(kind, StopIteration | StopAsyncIteration) and op != "next":
                kind = RuntimeError  # else it would end a loop of the tests before its time, and `all` would be true
            try:
                error = kind(text)
            except TypeError:  # it takes other arguments
                continue
            error.add_note("by the completion")
            return error
        return self.stop_by("exited", f"{names[0]}: {text}"[:_MAX_DETAIL])


def solve(payload: Mapping[str, Any], peer: Peer) -> None:
    """Run the completion and answer for its names until the judge is gone."""
    space = _module("completion")
    peer.send({"started": True})
    _start_clock(payload)
    try:  # noqa: SIM105  # contextlib is not there
        exec(compile(payload["setup"], "setup.py", "exec", dont_inherit=True), space)
    except Exception:  # what it needs of the completion is not there yet; the judge runs it for good
        pass
    try:
        exec(compile(payload["code"], "completion.py", "exec", dont_inherit=True), space)
    except BaseException as error:
        peer.send({"raise": _describe(error)})
        return
    peer.send({"loaded": True})
    while True:
        message = peer.receive()
        if message["op"] == "start":
            _start_clock(payload)
        elif message["op"] == "global":
            peer.send(_global(space, message["on"], peer))
        else:
            peer.answer(message)


def _global(space: Mapping[str, Any], name: str, peer: Peer) -> dict[str, Any]:
    if isinstance(space.get(name), type(sys)):
        return {"module": space[name].__name__}
    return {"value": peer.encode(space[name])} if name in space else {"missing": True}


def judge(payload: Mapping[str, Any], peer: Peer) -> None:
    """Run the tests from number `first` on; a line of JSON on stdout for each, with its outcome, until one ends all."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    sys.set_int_max_str_digits(0)
    peer.is_judge = True

    def report(outcome: str, detail: str = "") -> None:
        _wire.write(results, [outcome, detail[:_MAX_DETAIL]])

    try:
        if not peer.receive().get("started"):
            return
        report("started")
        loaded = peer.receive()
    except Stop as stop:
        report(stop.outcome, stop.detail)
        return
    if "loaded" not in loaded:
        names, text = loaded.get("raise") or (["nothing"], "")
        outcome = "exited" if "Exception" not in names else "syntax_error" if "SyntaxError" in names else "load_error"
        report(outcome, f"{names[0]}: {text}")
        return
    report("loaded")
    tests = _Tests(peer)
    for statement in payload["statements"]:
        if statement["test"] is not None and statement["test"] < payload["first"]:
            continue
        if statement["test"] is not None or tests.failed is None:
            _start_clock(payload)
            outcome = tests.run(statement)
            if statement["test"] is not None or outcome[0] == "ended":
                report(*outcome)
            if outcome[0] == "ended":
                return


class _Tests:
    """The tests' own names, and how far they came."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        self._own: set[str] = set()
        self._theirs: set[str] = set()
        self._touched_before = False
        self.failed: tuple[str, str] | None = None  # of a statement between the tests

    def run(self, statement: Mapping[str, Any]) -> tuple[str, str]:
        """The outcome of one statement, and its detail."""
        peer = self._peer
        if self.failed and statement["test"] is not None:
            return self.failed
        peer.touched, peer.stopped, peer.last = False, None, []
        try:
            peer.send({"op": "start"})
            self._bind(statement["names"], statement["modules"])
            exec(compile(statement["code"], "tests.py", "exec", dont_inherit=True), self._space)
            outcome = ("pass", "")
        except Stop as stop:
            outcome = (stop.outcome, stop.detail)
        except AssertionError as error:
            theirs = bool(getattr(error, "__notes__", None))
            outcome = (
                ("exception", f"AssertionError: {error}") if theirs else ("wrong_answer", f"got {_shown(*peer.last)}")
            )
        except BaseException as error:
            outcome = ("exception", f"{type(error).__name__}: {_describe(error)[1]}")
        if peer.stopped:
            outcome = (peer.stopped.outcome, peer.stopped.detail)
        self._own.update(statement["binds"])
        if statement["test"] is None:
            self._touched_before |= peer.touched
            if outcome[0] != "pass":
                self.failed = (outcome[0], f"in what stands before the test: {outcome[1]}")
        elif outcome[0] == "pass" and not (peer.touched or self._touched_before):
            outcome = ("untested", "the test uses nothing that the completion defines")
        return outcome

    def _bind(self, names: Sequence[str], modules: Sequence[str]) -> None:
        """Ask the completion for the names that the tests use and define nowhere; of builtins they have Python's."""
        for name in names:
            if name in self._own or (name in self._space and name not in self._theirs):
                continue
            peer = self._peer
            peer.send({"op": "global", "on": name})
            while "op" in (message := peer.receive()):
                peer.answer(message)
            is_module = message.get("module") == name and name in sys.stdlib_module_names
            if is_module or (name in modules and "missing" not in message):
                self._space[name] = __import__(name)  # that the completion imported, or pretends to; Python's own
            elif "value" in message:
                try:
                    self._space[name] = peer.decode(message["value"])
                except Exception as error:
                    raise peer.stop_by("ended", f"no value that can be read ({type(error).__name__})") from None
                self._theirs.add(name)
                peer.touched = True


def script(payload: Mapping[str, Any], started: int) -> None:
    """Run the completion as the program that it is."""
    os.write(started, b"1")
    os.close(started)
    space = _module("__main__")
    _start_clock(payload)
    exec(compile(payload["code"], "completion.py", "exec", dont_inherit=True), space)


def _module(name: str) -> dict[str, Any]:
    sys.modules[name] = type(sys)(name)
    return sys.modules[name].__dict__


def _describe(error: BaseException) -> tuple[list[str], str]:
    """Names of its classes, its own first, and its text."""
    try:
        text = str(error)[:_MAX_DETAIL]
    except BaseException:
        text = ""
    return [kind.__name__ for kind in type(error).__mro__], text


def _restore(original: Any, now: Any) -> None:
    """Give a mutable argument what the call made of it."""
    if type(original) is not type(now):
        return
    if isinstance(original, list | bytearray):
        original[:] = now
    elif isinstance(original, dict | set):
        original.clear()
        original.update(now)


def _shown(value: object = None, sent: object = "nothing") -> str:
    """A value as text; objects of the completion's are not asked for theirs."""
    if "'mine', " in str(sent):
        return "an object of the completion's own"
    import reprlib

    return "nothing" if sent == "nothing" and value is None else reprlib.Repr().repr(value)


def _start_clock(payload: Mapping[str, Any]) -> None:
    """End this process, by SIGPROF, once it has used up what one test may take."""
    _signal.setitimer(_signal.ITIMER_PROF, payload["cpu_s"])


def _limit(payload: Mapping[str, Any]) -> None:
    """Limits of the kernel that nothing in here can raise again."""
    limits = {
        "AS": "memory_bytes",
        "CPU": "total_cpu_s",
        "FSIZE": "file_bytes",
        "NPROC": "n_threads",
        "NOFILE": "n_files",
    }
    for name, key in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (payload[key], payload[key]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Be what the command line says."""
    role, payload_fd, peer_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with os.fdopen(payload_fd, "rb") as file:
        payload = _wire.read(file, sys.maxsize)
    _limit(payload)
    sys.argv = ["completion.py"]
    builtins.exit = builtins.quit = sys.exit  # pyright: ignore[reportAttributeAccessIssue]  # site's, which is not loaded
    if role == "script":
        script(payload, peer_fd)
    else:
        try:
            {"solve": solve, "judge": judge}[role](payload, Peer(peer_fd))
        except Stop:  # the other side is gone
            os._exit(0)
        os._exit(0)
        os._exit(0)


if __name__ == "__main__":
    main()
