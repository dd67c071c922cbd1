"""`missing_parts`; oracle: traces written by hand, lacking one part each."""

from typing import Any

import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.contracts.records import Document, Prompt, Rejection, Trace
from datagen.filter.missing_parts import Config, missing_parts

PROMPT = Prompt(id="p", messages=[{"role": "user", "content": "3 + 4?"}])
CALL = '[{"function": {"name": "add", "arguments": "{}"}}]'


def fault(completion: str, reasoning: str | None = None, *, params: dict[str, Any] | None = None, **more: Any) -> str:
    config = validate({"method": "missing_parts", **(params or {})}, Config)[Config]
    trace = Trace(id="t", prompt=PROMPT, completion=completion, reasoning=reasoning, **more)
    (row,) = missing_parts(config, [trace], None)
    assert isinstance(row, Rejection) or row is trace
    return f"{row.reason}: {row.detail}" if isinstance(row, Rejection) else ""


@pytest.mark.parametrize(
    ("completion", "reasoning", "more"),
    [
        ("7", "Three and four.", {}),
        ("<think>Three and four.</think>7", None, {"finish_reason": "stop"}),
        ("Three and four.</think>\n7", None, {}),  # the start tag stood in the chat template
        ("", "Three and four.", {"tool_calls": CALL}),
    ],
)
def test_a_whole_trace_stays(completion: str, reasoning: str | None, more: dict[str, Any]):
    assert not fault(completion, reasoning, **more)


@pytest.mark.parametrize(
    ("completion", "reasoning", "more", "expected"),
    [
        ("7", None, {}, "no_reasoning: an answer of 1 characters without reasoning"),
        ("7", " \n", {}, "no_reasoning: an answer of 1 characters without reasoning"),
        ("<think> </think>7", None, {}, "no_reasoning: an answer of 1 characters without reasoning"),
        (" ", "Three.", {}, "no_answer: 6 characters of reasoning and no answer"),
        ("<think>Three.</think> ", None, {}, "no_answer: 6 characters of reasoning and no answer"),
        ("", None, {}, "no_answer: 0 characters of reasoning and no answer"),
        ("<think>Three and", None, {}, "unclosed_reasoning: <think> is opened and not closed"),
        ("7. <think>Or was it", "Three.", {}, "unclosed_reasoning: <think> is opened and not closed"),
        ("It is sev", "Three.", {"finish_reason": "length"}, "cut_off: finish_reason is length"),
        (
            "<think>Three and", None, {"finish_reason": "length", "n_completion_tokens": 48},
            "cut_off: finish_reason is length after 48 tokens",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_named(completion: str, reasoning: str | None, more: dict[str, Any], expected: str):
    assert fault(completion, reasoning, **more) == expected


def test_each_fault_may_stay_and_the_next_one_counts():
    """A trace with all of them but no_reasoning: cut off within reasoning that its tag opened."""
    keeps: dict[str, Any] = {}
    for parameter, reason in (
        ("cut_off", "cut_off"), ("unclosed_reasoning", "unclosed_reasoning"), ("without_answer", "no_answer")
    ):  # fmt: skip
        assert fault("<think>Three", params=keeps, finish_reason="length").partition(":")[0] == reason
        keeps[parameter] = "keep"
    assert not fault("<think>Three", params=keeps, finish_reason="length")
    assert not fault("7", params={"without_reasoning": "keep"})


def test_other_tags_and_none():
    tags = {"reasoning_tags": ["[THINK]", "[/THINK]"]}
    assert not fault("[THINK]Three.[/THINK]7", params=tags)
    assert fault("<think>Three.</think>7", params=tags).startswith("no_reasoning")
    assert fault("<think>Three", params={"reasoning_tags": []}).startswith("no_reasoning")
    with pytest.raises(ParamsError, match="expected the two tags around the reasoning, or none"):
        fault("7", params={"reasoning_tags": ["<think>"]})


def test_rows_without_answers_are_refused_and_bad_rows_go_through():
    config = Config(method="missing_parts")
    bad = Rejection(id="f:1", stage="filter", reason="malformed_json", detail="")
    assert list(missing_parts(config, [bad], None)) == [bad]
    for row in (PROMPT, Document(id="d", text="x")):
        with pytest.raises(ParamsError, match=f"the rows are {type(row).__name__.lower()}s; give it traces"):
            list(missing_parts(config, [row], None))
