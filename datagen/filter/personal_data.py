"""Mask or drop e-mail addresses, phone numbers and card numbers.

Source: e-mail after RFC 5322's dot-atom; phone numbers as E.164 writes them (`+`, country code, at most 15 digits) and
in the grouped form of North America; payment cards by ISO/IEC 7812: 13 to 19 digits, first 2 to 6, with a right Luhn
check digit. These are patterns: a bare row of digits is no phone number here, names and addresses are not looked for.

Looked at are all messages, the reference, the reasoning, the answer and the calls of tools, or a document's text;
`info` and `source` stay as they are. A masked trace loses its token ids, since they would say the text again.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.contracts.records import Document, Example, Message, Prompt, Rejection, Trace
from datagen.filter import Row
from datagen.filter._texts import dropped

log = logging.getLogger(__name__)

Kind = Literal["email", "card", "phone"]
KINDS: tuple[Kind, ...] = ("email", "card", "phone")  # looked for in this order: a card number may hold a phone number
PATTERNS = {
    "email": re.compile(r"(?<![\w.+-])[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b", re.I),
    "card": re.compile(r"(?<![\w.,-])[2-6](?:[ -]?\d){12,18}(?![\w-]|[.,]\d)"),
    "phone": re.compile(
        r"(?<![\w+])\+[1-9](?:[ .()-]{0,2}\d){6,13}\d(?!\w)"
        r"|(?<![\w.,+-])(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}(?![\w-]|[.,]\d)"
    ),
}


class Config(Params):
    """What is looked for, and whether it is replaced by `[EMAIL]`, `[CARD]`, `[PHONE]` or its row dropped."""

    method: Literal["personal_data"]
    action: Literal["mask", "reject"] = "mask"
    kinds: list[Kind] = Field(default=list(KINDS), min_length=1)


class _Masker:
    """Masks texts of one row, and counts what was found in it."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.found: Counter[str] = Counter()
        self._kinds: list[Kind] = [kind for kind in KINDS if kind in kinds]

    def mask(self, text: str) -> str:
        for kind in self._kinds:
            text = PATTERNS[kind].sub(partial(self._replace, kind=kind), text)
        return text

    def mask_any(self, text: str | None) -> str | None:
        return text and self.mask(text)

    def _replace(self, match: re.Match[str], kind: Kind) -> str:
        if kind == "card" and not has_luhn_digit(match[0]):
            return match[0]
        self.found[kind] += 1
        return f"[{kind.upper()}]"


def personal_data(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, masked where something was found, or its rejection `personal_data`, which says what but not which."""
    masked: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, Rejection):
            yield row
            continue
        masker = _Masker(config.kinds)
        clean = _masked(row, masker)
        if not masker.found:
            yield row
        elif config.action == "reject":
            found = ", ".join(f"{kind} {n}" for kind, n in sorted(masker.found.items()))
            yield dropped(row, "personal_data", f"holds personal data: {found}")
        else:
            masked += masker.found
            yield clean
    log.info("personal_data: masked %s", ", ".join(f"{kind} {n}" for kind, n in sorted(masked.items())) or "nothing")


def has_luhn_digit(number: str) -> bool:
    """Whether the last digit is the check digit of those before it: every second one, from the right, doubled."""
    digits = [int(character) for character in reversed(number) if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _masked(row: Row, masker: _Masker) -> Row:
    if isinstance(row, Document):
        return replace(row, text=masker.mask(row.text))
    if isinstance(row, Example):
        said = {name: masker.mask_any(getattr(row, name)) for name in ("context", "character", "reason")}
        return replace(row, text=masker.mask(row.text), **said)
    if isinstance(row, Prompt):
        messages = [_message(message, masker) for message in row.messages]
        return replace(row, messages=messages, reference=masker.mask_any(row.reference))
    return _trace(row, masker)


def _trace(row: Trace, masker: _Masker) -> Trace:
    prompt = _masked(row.prompt, masker)
    assert isinstance(prompt, Prompt)
    return replace(
        row,
        prompt=prompt,
        reasoning=masker.mask_any(row.reasoning),
        completion=masker.mask(row.completion),
        tool_calls=masker.mask_any(row.tool_calls),
        prompt_token_ids=None,
        token_ids=None,
    )


def _message(message: Message, masker: _Masker) -> Message:
    clean = message.copy()
    for key in ("content", "tool_calls"):
        if text := message.get(key):
            clean[key] = masker.mask(text)
    return clean
