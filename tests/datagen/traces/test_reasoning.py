"""Oracles: texts split by hand."""

import pytest
from pydantic import ValidationError

from datagen.backends.base import Completion, Failure
from datagen.traces._reasoning import ReasoningParams, split, split_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>add</think>7", ("add", "7")),
        ("\n<think>\nadd\n\nthem\n</think>\n\n7 \n", ("add\n\nthem", "7 \n")),
        ("add</think>\n7", ("add", "7")),  # the template opened it
        ("<think>add", ("add", "")),  # cut off
        ("<think>", ("", "")),
        ("<think>\n\n</think>\n\n7", ("", "7")),  # told not to think
        ("7", ("", "7")),
        (" 7\n", ("", " 7\n")),
        ("", ("", "")),
        ("Write <think>x</think> around it.", ("", "Write <think>x</think> around it.")),
        ("<think>a</think>b</think>c", ("a", "b</think>c")),
        ("<think>a <think> b</think>c", ("a <think> b", "c")),
    ],
)
def test_reasoning_is_what_the_tags_enclose(text: str, expected: tuple[str, str]):
    assert split_text(text, "<think>", "</think>") == expected


def test_the_server_s_field_goes_before_tags_and_tags_may_be_others():
    field = Completion(text="<think>no</think>7", reasoning="add")
    assert split(field, ReasoningParams()) == field
    marked = Completion(text="[R]add[/R]7")
    params = ReasoningParams(reasoning_tags=("[R]", "[/R]"))
    assert split(marked, params) == Completion(text="7", reasoning="add")
    assert split(marked, ReasoningParams()) == marked
    assert split(marked, ReasoningParams(reasoning_tags=())) == marked


@pytest.mark.parametrize(
    ("answer", "kept", "reason"),
    [
        (Completion(text="7"), True, "no_reasoning"),
        (Completion(text="<think>add"), True, "reasoning_only"),
        (Completion(text="", reasoning="add"), True, "reasoning_only"),
        (Completion(text="<think>add</think>", tool_calls="[]"), True, None),
        (Completion(text="<think>add</think>7"), True, None),
        (Completion(text="<think> </think> "), False, "empty_answer"),
    ],
)
def test_a_missing_part_is_kept_or_a_rejection(answer: Completion, kept: bool, reason: str | None):
    strict = split(answer, ReasoningParams(without_reasoning="reject", without_answer="reject"))
    assert (strict.reason if isinstance(strict, Failure) else None) == reason
    assert isinstance(split(answer, ReasoningParams()), Completion) == kept


@pytest.mark.parametrize("tags", [["<think>"], ["", "</think>"], ["a", "b", "c"]])
def test_tags_are_two_or_none(tags: list[str]):
    with pytest.raises(ValidationError, match="expected the two tags"):
        ReasoningParams(reasoning_tags=tags)  # pyright: ignore[reportArgumentType]
