"""`personal_data`; oracle: texts written by hand, and the card networks' published test numbers."""

import random

import pytest

from datagen.contracts.records import Document, Example, Prompt, Rejection, Trace
from datagen.filter.personal_data import Config, has_luhn_digit, personal_data


def masked(text: str, **params: object) -> str:
    config = Config.model_validate({"method": "personal_data", **params})
    (row,) = personal_data(config, [Document(id="d", text=text)], None)
    assert isinstance(row, Document)
    return row.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to Jo.Doe+x@mail.example.org, now.", "Write to [EMAIL], now."),
        ("<a@b.co>;c_d@e-f.com", "<[EMAIL]>;[EMAIL]"),
        ("Call +44 20 7946 0958 or (415) 555-2671.", "Call [PHONE] or [PHONE]."),
        ("415-555-2671 or 415.555.2671", "[PHONE] or [PHONE]"),
        ("+14155552671", "[PHONE]"),
        ("Visa 4111 1111 1111 1111.", "Visa [CARD]."),
        ("5555-5555-5555-4444 and 378282246310005", "[CARD] and [CARD]"),
        ("6011111111111117, 4222222222222", "[CARD], [CARD]"),
    ],
)
def test_what_is_found_is_masked(text: str, expected: str):
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the check digit is wrong
        "1234567812345670",  # a right check digit, but no card begins with 1
        "pi is 3.14159265358979323846",
        "0.4111111111111111 and 4111111111111111.5 are numbers",
        "415 + 555 - 2671 = -1701, and 2024-11-24 12:30:00",
        "3 + 4155552671 = 4155552674",
        "x@y, @decorator, a @ b, user@localhost",
        "192.168.100.2001 and ISBN 978-0-306-40615-7",
    ],
)
def test_what_only_looks_like_it_stays(text: str):
    assert masked(text) == text


def test_one_wrong_digit_is_always_seen():
    """What Luhn's digit is for: of 200 numbers no change of one digit leaves it right."""
    spread = random.Random(6)
    for _ in range(200):
        start = "4" + "".join(spread.choice("0123456789") for _ in range(14))
        right = [start + digit for digit in "0123456789" if has_luhn_digit(start + digit)]
        assert len(right) == 1
        at = spread.randrange(15)
        others = [right[0][:at] + digit + right[0][at + 1 :] for digit in "0123456789" if digit != right[0][at]]
        assert not any(has_luhn_digit(other) for other in others)


def test_all_of_a_trace_is_masked_and_its_token_ids_go():
    prompt = Prompt(
        id="p",
        messages=[{"role": "system", "content": "a@b.org"}, {"role": "user", "content": "Mail a@b.org?"}],
        reference="c@d.org",
    )
    trace = Trace(
        id="t", prompt=prompt, reasoning="+14155552671", completion="At c@d.org", tool_calls='[{"to": "c@d.org"}]',
        token_ids=[1, 2], prompt_token_ids=[3],
    )  # fmt: skip
    clean_trace = Trace(id="u", prompt=Prompt(id="q", messages=[]), completion="Nothing.", token_ids=[4])
    row, other = personal_data(Config(method="personal_data"), [trace, clean_trace], None)
    assert isinstance(row, Trace) and other is clean_trace
    assert [message.get("content") for message in row.prompt.messages] == ["[EMAIL]", "Mail [EMAIL]?"]
    assert (row.prompt.reference, row.reasoning, row.completion) == ("[EMAIL]", "[PHONE]", "At [EMAIL]")
    assert (row.tool_calls, row.token_ids, row.prompt_token_ids) == ('[{"to": "[EMAIL]"}]', None, None)


def test_a_rejection_says_what_but_not_which():
    text = "a@b.org, c@d.org and 4111111111111111"
    config = Config(method="personal_data", action="reject")
    (row,) = personal_data(config, [Document(id="d", text=text)], None)
    assert isinstance(row, Rejection)
    assert (row.reason, row.detail) == ("personal_data", "holds personal data: card 1, email 2")
    assert masked(text, kinds=["card"]) == "a@b.org, c@d.org and [CARD]"


def test_all_that_an_example_says_is_masked():
    """Its text, context, character and reason; its labels stay."""
    config = Config(method="personal_data", kinds=["email"])
    said = {"text": "write a@b.com", "context": "c@d.org", "character": "e@f.net", "reason": "g@h.com"}
    example = Example(id="e", labels=[{"name": "joy", "weight": 1.0}], **said)
    (row,) = personal_data(config, [example], None)
    assert isinstance(row, Example) and row.labels == example.labels
    assert (row.text, row.context, row.character, row.reason) == ("write [EMAIL]", "[EMAIL]", "[EMAIL]", "[EMAIL]")
