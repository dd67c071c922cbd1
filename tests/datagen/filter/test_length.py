"""`length`; oracle: texts whose words and characters are counted by hand."""

import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Document, Example, Prompt, Rejection, Trace
from datagen.filter.length import Config, length


def why(text: str, **params: object) -> str | None:
    config = validate({"method": "length", **params}, Config)[Config]
    (row,) = length(config, [Document(id="d", text=text)], None)
    return f"{row.reason}: {row.detail}" if isinstance(row, Rejection) else None


def test_both_ends_are_included():
    """Three words, fourteen characters."""
    text = "One, two -- 3!"
    assert why(text, min_words=3, max_words=3, min_chars=14, max_chars=14) is None
    assert why(text, min_words=4) == "too_short: 3 words, the least is 4"
    assert why(text, max_words=2) == "too_long: 3 words, the most is 2"
    assert why(text, min_chars=15) == "too_short: 14 characters, the least is 15"
    assert why(text, max_chars=13) == "too_long: 14 characters, the most is 13"


def test_the_field_says_which_text_is_measured():
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "one two"}])
    trace = Trace(id="t", prompt=prompt, reasoning="three", completion="four five six")
    for field, n in (("prompt", 2), ("answer", 4), ("all", 6)):
        config = Config.model_validate({"method": "length", "min_words": 7, "field": field})
        (row,) = length(config, [trace], None)
        assert isinstance(row, Rejection) and row.detail == f"{n} words, the least is 7"


def test_no_bound_and_bounds_that_leave_nothing_are_refused():
    with pytest.raises(ParamsError, match="method length needs a bound"):
        why("x")
    with pytest.raises(ParamsError, match=r"min_words: must not be above max_words=2 \(got 3\)"):
        why("x", min_words=3, max_words=2)


def test_an_example_is_its_text_and_all_of_it_its_context_too():
    example = Example(id="e", text="four five", context="one two three")
    for field, n in (("prompt", 2), ("all", 5)):
        config = Config.model_validate({"method": "length", "min_words": 7, "field": field})
        (row,) = length(config, [example], None)
        assert isinstance(row, Rejection) and row.detail == f"{n} words, the least is 7"
    with pytest.raises(ParamsError, match="field: the rows are examples and have no answer"):
        list(length(Config.model_validate({"method": "length", "min_words": 7, "field": "answer"}), [example], None))
