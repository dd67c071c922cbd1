"""Plain values as bytes, between processes of which one may lie: reading builds builtin values and nothing else.

Plain are None, bool, int, float, str, list (a tuple is written as one) and dict. `json` would do, but importing it
takes longer than starting an interpreter, and a row of code starts two.

    n t f        None, True, False
    i-ff; dinf;  an int and a float, in hexadecimal
    s5:hello     a text of so many characters
    l2: m1:      so many values, so many pairs of values

Written as UTF-8 in which halves of surrogate pairs may stand, behind its length in 8 bytes.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

_SINGLE = {"n": None, "t": True, "f": False}


def write(stream: IO[bytes], value: Any) -> None:
    """Write one value, and let go of it."""
    parts: list[str] = []
    _pack(value, parts.append)
    content = "".join(parts).encode("utf-8", "surrogatepass")
    stream.write(len(content).to_bytes(8, "big") + content)
    stream.flush()


def read(stream: IO[bytes], most_bytes: int) -> Any:
    """The next value.

    Raises:
        EOFError: the stream ends before it does.
        ValueError: it is longer than `most_bytes`, or no value; IndexError, RecursionError, TypeError likewise.
    """
    head = stream.read(8)
    n_bytes = int.from_bytes(head, "big")
    if len(head) == 8 and n_bytes > most_bytes:
        raise ValueError(f"a message of {n_bytes} bytes, more than {most_bytes}")
    content = stream.read(n_bytes) if len(head) == 8 else b""
    if len(head) < 8 or len(content) < n_bytes:
        raise EOFError
    text = content.decode("utf-8", "surrogatepass")
    value, end = _unpack(text, 0)
    if end != len(text):
        raise ValueError("more than one value in a message")
    return value


def _pack(value: Any, put: Callable[[str], object]) -> None:
    kind = type(value)
    if value is None:
        put("n")
    elif kind is bool:
        put("t" if value else "f")
    elif kind is int:
        put(f"i{value:x};")
    elif kind is float:
        put(f"d{value.hex()};")
    elif kind is str:
        put(f"s{len(value)}:{value}")
    elif kind is list or kind is tuple:
        put(f"l{len(value)}:")
        for one in value:
            _pack(one, put)
    elif kind is dict:
        put(f"m{len(value)}:")
        for key, held in value.items():
            _pack(key, put)
            _pack(held, put)
    else:
        raise TypeError(f"no plain value: {kind.__name__}")


def _unpack(text: str, at: int) -> tuple[Any, int]:
    """The value that starts at a place of the text, and the place behind it."""
    tag = text[at]
    if tag in _SINGLE:
        return _SINGLE[tag], at + 1
    stop = text.index(";" if tag in "id" else ":", at)
    head, at = text[at + 1 : stop], stop + 1
    if tag == "i":
        return int(head, 16), at
    if tag == "d":
        return float.fromhex(head), at
    n = int(head)
    if n < 0 or n > len(text) - at:
        raise ValueError(f"a count of {n} where {len(text) - at} characters are left")
    if tag == "s":
        return text[at : at + n], at + n
    if tag == "l":
        values: list[Any] = []
        for _ in range(n):
            value, at = _unpack(text, at)
            values.append(value)
        return values, at
    if tag == "m":
        pairs: dict[Any, Any] = {}
        for _ in range(n):
            key, at = _unpack(text, at)
            pairs[key], at = _unpack(text, at)
        return pairs, at
    raise ValueError(f"no value starts with {tag!r}")
