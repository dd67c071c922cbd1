"""Oracles: what was written; bytes by hand; bytes at random, of which nothing but a plain value may come."""

import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.verify import _wire

PLAIN = (type(None), bool, int, float, str, list, dict)
texts = st.text(st.characters())  # halves of surrogate pairs too
singles = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(singles, lambda one: st.lists(one) | st.dictionaries(texts, one), max_leaves=20)


def written(value: Any) -> bytes:
    stream = io.BytesIO()
    _wire.write(stream, value)
    return stream.getvalue()


def read(content: bytes, most_bytes: int = 10**6) -> Any:
    return _wire.read(io.BytesIO(content), most_bytes)


def framed(text: str) -> bytes:
    return len(text).to_bytes(8, "big") + text.encode()


@given(values)
def test_round_trip(value: Any):
    assert repr(read(written(value))) == repr(value)  # by repr, as True is 1 and 0.0 is -0.0


def test_special_values():
    """By hand, from the description of the format."""
    assert written((1, "a", None)) == framed("l3:i1;s1:an")
    assert read(framed("m1:s1:ai-ff;")) == {"a": -255}
    assert math.isnan(read(written(float("nan"))))
    large = 7**20000  # more digits than Python reads or writes as a decimal
    assert read(written(large)) == large
    assert read(written("\ud800\udc00")) == "\ud800\udc00"


@given(st.text("ntfidslm0123456789abcdef:;-{}\x00", max_size=40))
def test_whatever_comes_is_a_plain_value_or_an_exception(text: str):
    try:
        value = read(framed(text))
    except Exception:
        return
    waiting = [value]
    while waiting:
        one = waiting.pop()
        assert type(one) in PLAIN
        waiting += one if isinstance(one, list) else [*one, *one.values()] if isinstance(one, dict) else []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EOFError),
        (framed("n")[:-1], EOFError),
        ((10**9).to_bytes(8, "big") + b"n", ValueError),
        (framed("nn"), ValueError),
        (framed("s9:abc"), ValueError),
        (framed("l-1:"), ValueError),
        (framed("l9999999999:"), ValueError),
        (framed("x1:"), ValueError),
        (framed("l1:" * 5000 + "n"), RecursionError),
    ],
)
def test_what_cannot_be_read(content: bytes, error: type[Exception]):
    with pytest.raises(error):
        read(content)


def test_what_is_not_plain_is_not_written():
    with pytest.raises(TypeError, match="no plain value: set"):
        written({1})
