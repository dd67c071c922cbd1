"""Oracles: json.loads of what was put into the text; the whole value beside each of its cuts."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.synthesis._json_text import Broken, find, parse

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
OBJECTS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), VALUES, max_size=4)
NOISE = st.text(st.characters(codec="utf-8", exclude_characters="{["), max_size=20)
A_MB = 1_000_000


def found(text: str) -> list[Any]:
    return [one.value for one in find(text)]


@given(NOISE, OBJECTS, NOISE, st.sampled_from([None, 2]), st.booleans())
def test_an_object_in_noise_is_read_back(before: str, value: Any, after: str, indent: int | None, is_ascii: bool):
    """However json.dumps writes it."""
    text = before + json.dumps(value, indent=indent, ensure_ascii=is_ascii) + after
    assert found(text) == [value]


@given(st.lists(OBJECTS, max_size=4), NOISE)
def test_several_objects_in_order(values: list[Any], between: str):
    """Each once, and none of those within another."""
    text = between.join(["", *map(json.dumps, values), ""])
    assert found(text) == values


@given(st.text("{}[]\"',:\\ \n1-eEtu.a", max_size=30))
def test_any_text_of_marks(text: str):
    """Nothing but Broken is raised, and what json.loads takes for an object is that object."""
    read = None
    with suppress(Broken):
        read = list(find('{"a":' + text))
    with suppress(ValueError):
        value = json.loads('{"a":' + text)
        assert read and read[0].value == value and not read[0].is_cut


@given(OBJECTS, st.data())
def test_a_cut_says_nothing_that_is_not_whole(value: dict[str, Any], data: st.DataObject):
    """At any character: the first fields as they are; but the last of them, a list, may end early."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    read = list(find(cut))
    if len(cut) < len(json.dumps(next(iter(value), ""))) + 2:  # the first key and its colon are not there
        assert read == []
        return
    assert len(read) == 1 and read[0].is_cut
    said = read[0].value
    assert list(said) == list(value)[: len(said)]
    for place, (name, one) in enumerate(said.items(), start=1):
        may_end_early = place == len(said) and isinstance(one, list)
        assert one == (value[name][: len(one)] if may_end_early else value[name])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Sure {x}: {"a": [1, 2,],}.', {"a": [1, 2]}),
        ("{'a': 'he said \"it\\'s\"', 'b': [None, True]}", {"a": "he said \"it's\"", "b": [None, True]}),
        ('{"a": "two\nlines", "b": "x\\_y \\u00e9 \\ud83d\\ude00 \\q"}', {"a": "two\nlines", "b": "x_y é 😀 q"}),
        ('{"a"\u00a0:\t-1.5e-3}', {"a": -0.0015}),
        ('[{"a": 1}]', [{"a": 1}]),
        ("see [1], then [2]: {}", {}),
    ],
)  # fmt: skip
def test_what_is_forgiven(text: str, value: Any):
    """Written by hand."""
    assert found(text) == [value]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1 "b": 2}', "a comma or } is expected"),
        ('{"a": "say "hi" now"}', "a value or a mark is expected"),
        ('{"a": NaN}', "a value or a mark"),
        ('{"a": {"b": x}, "c": {"d": 1}}', "at character 11"),
        ('{"a" : 01}', "a value or a mark"),
        ('{"a": }', "a value is expected"),
        ('{"a": 1, 2}', "a key is expected"),
        ('{"a": 1, "b", 2}', "a colon is expected"),
        ('{"a": [1, 2}', "a comma or ]"),
        ('{"a": %s}' % ("9" * 5000), "a shorter number"),
        ('{"a": %s' % ("[" * 200), "nested deeper than 100"),
    ],
)  # fmt: skip
def test_what_is_not(text: str, said: str):
    """Nothing is guessed, and no object within a broken one is taken for it."""
    with pytest.raises(Broken, match=said) as caught:
        found(text)
    assert not caught.value.is_cut


def test_a_list_that_is_cut_is_no_object_of_its_own():
    with pytest.raises(Broken) as caught:
        found('[{"a": 1}, {"a"')
    assert caught.value.is_cut


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": 1,}', '{"a": 1} ok', ""])
def test_strictly(text: str):
    """None of these is JSON by RFC 8259."""
    with pytest.raises(ValueError):
        parse(text)


ROW = '{"text": "It is fine \\\\ really", "weight": 0.25}, '
LONG = {
    "rows": '{"rows": [%s]}' % (ROW * (A_MB // len(ROW))),
    "single quotes": ('{"rows": [%s]}' % (ROW * (A_MB // len(ROW)))).replace('"', "'"),
    "cut": '{"rows": [%s' % (ROW * (A_MB // len(ROW))),
    "braces": "{" * A_MB,
    "open keys": '{"' * (A_MB // 2),
    "other keys": '{"' + "{'" * (A_MB // 2),
    "brackets": "[" * A_MB,
    "brackets and an object": "[ " * (A_MB // 2) + '{"a": 1',
    "deep": '{"a":' * (A_MB // 5),
    "backslashes": '{"a": "' + "\\" * A_MB,
    "escapes": '{"a": "' + "\\'" * (A_MB // 2) + '",}',
    "digits": '{"a": ' + "1" * A_MB + "}",
    "minus": '{"a": ' + "-" * A_MB,
    "blanks": "{" + " " * A_MB,
    "prose": "I think { so " * (A_MB // 13),
}


@pytest.mark.parametrize("text", LONG.values(), ids=list(LONG))
def test_a_megabyte_of_anything(text: str):
    """The processor's time; what grows with the square of the length would take minutes."""
    began = time.process_time()
    with suppress(Broken):
        list(find(text))
    assert time.process_time() - began < 2.0
