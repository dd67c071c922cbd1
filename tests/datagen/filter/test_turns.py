"""`turns`; oracles: conversations written by hand, and a regular expression for every short sequence of roles."""

import re
from itertools import product

import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Document, Message, Prompt, Rejection, Trace
from datagen.filter.turns import Config, turns

ROLES = {"s": "system", "d": "developer", "u": "user", "a": "assistant", "t": "tool"}


def fault(letters: str, *, answer: bool = False, **params: object) -> str | None:
    config = Config.model_validate({"method": "turns", **params})
    messages: list[Message] = [{"role": ROLES[letter], "content": "x"} for letter in letters]
    prompt = Prompt(id="p", messages=messages)
    row = Trace(id="t", prompt=prompt, completion="y") if answer else prompt
    (out,) = turns(config, [row], None)
    assert isinstance(out, Rejection) or out is row
    return f"{out.reason}: {out.detail}" if isinstance(out, Rejection) else None


@pytest.mark.parametrize("letters", ["u", "su", "du", "uau", "suauau", "uatau", "uattau"])
def test_a_conversation_by_turns_stays(letters: str):
    """As a prompt, and with an answer as a trace."""
    assert fault(letters) is None and fault(letters, answer=True) is None


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("s", "too_few_turns: 0 turns of the user, the least is 1"),
        ("uu", "roles_do_not_alternate: message 2, system messages aside, is of user after user"),
        ("suaau", "roles_do_not_alternate: message 3, system messages aside, is of assistant after assistant"),
        ("uatu", "roles_do_not_alternate: message 4, system messages aside, is of user after tool"),
        ("ut", "roles_do_not_alternate: message 2, system messages aside, is of tool after user"),
        ("au", "roles_do_not_alternate: begins with assistant, not with user"),
        ("ua", "last_role: ends on assistant, not on user or tool"),
    ],
)
def test_a_fault_of_a_prompt_is_named(letters: str, expected: str):
    assert fault(letters) == expected


def test_an_answer_is_the_last_message():
    """After the assistant's message an answer is one too many; after a tool's it goes on with the turn."""
    assert fault("uat", answer=True) is None
    expected = "roles_do_not_alternate: message 3, system messages aside, is of assistant after assistant"
    assert fault("ua", answer=True) == expected
    assert fault("", answer=True, min_turns=0) == "roles_do_not_alternate: begins with assistant, not with user"
    assert fault("u", answer=True, last_role="user") == "last_role: ends on assistant, not on user"


def test_bounds_are_included():
    assert fault("uauau", min_turns=3, max_turns=3) is None
    assert fault("uauau", min_turns=4) == "too_few_turns: 3 turns of the user, the least is 4"
    assert fault("uauau", max_turns=2) == "too_many_turns: 3 turns of the user, the most is 2"
    assert fault("", min_turns=0) == "last_role: ends on no message, not on user or tool"


def test_every_sequence_of_up_to_seven_roles():
    """A turn is u, then a, and as often as needed tools and a; the last one may be open."""
    whole = re.compile(r"(ua(t+a)*)*(u|ua(t+a)*t+)?")
    for n in range(1, 8):
        for letters in map("".join, product("uat", repeat=n)):
            found = fault(letters, min_turns=0, last_role=ROLES[letters[-1]])
            assert (found is None) == bool(whole.fullmatch(letters)), letters


def test_documents_and_bounds_that_leave_nothing_are_refused_and_bad_rows_go_through():
    bad = Rejection(id="f:1", stage="filter", reason="malformed_json", detail="")
    assert list(turns(Config(method="turns"), [bad], None)) == [bad]
    with pytest.raises(ParamsError, match="the rows are documents; give prompts or traces"):
        list(turns(Config(method="turns"), [Document(id="d", text="x")], None))
    with pytest.raises(ParamsError, match=r"min_turns: must not be above max_turns=1 \(got 2\)"):
        fault("u", min_turns=2, max_turns=1)
