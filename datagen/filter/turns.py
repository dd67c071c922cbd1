"""Drop conversations of too few or too many turns, whose roles do not alternate, or that end on the wrong one.

Tian et al. 2025, Not All Correct Answers Are Equal, arXiv:2505.14464, section 2, keeps conversations with an even
number of turns: of the user and the assistant in alternation, from a question to an answer. Where the paper is silent:
system messages are no turns, and a tool's messages belong to the assistant's turn that called it, as does what it says
afterwards.

The first rule that a row breaks is its reason: `too_few_turns`, `too_many_turns`, `roles_do_not_alternate`,
`last_role`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Document, Example, Prompt, Rejection, Trace
from datagen.filter import Row
from datagen.filter._texts import dropped

_NO_TURN = ("system", "developer")


class Config(Params):
    """Bounds on a conversation; a trace's answer is its last message.

    Attributes:
        min_turns: of the user, at least.
        max_turns: of the user, at most; without it there is no bound.
        last_role: of the last message: `usual` is the assistant for a trace, and the user or a tool for a prompt.
    """

    method: Literal["turns"]
    min_turns: int = Field(default=1, ge=0)
    max_turns: int | None = Field(default=None, ge=1)
    last_role: Literal["usual", "assistant", "user", "tool"] = "usual"


def turns(config: Config, rows: Iterable[Row | Rejection], against: Path | None) -> Iterator[Row | Rejection]:
    """Every row, or its rejection.

    Raises:
        ParamsError: `min_turns` above `max_turns`, or the rows are Documents or Examples.
    """
    if config.max_turns is not None and config.min_turns > config.max_turns:
        raise ParamsError(f"min_turns: must not be above max_turns={config.max_turns} (got {config.min_turns})")
    for row in rows:
        if isinstance(row, Document | Example):
            kind = type(row).__name__.lower()
            raise ParamsError(f"method turns looks at conversations, and the rows are {kind}s; give prompts or traces")
        if not isinstance(row, Rejection) and (fault := _find_fault(row, config)):
            yield dropped(row, *fault)
        else:
            yield row


def _find_fault(row: Prompt | Trace, config: Config) -> tuple[str, str] | None:
    """Reason and detail of the first rule that the row breaks."""
    roles = _roles(row)
    n_turns = roles.count("user")
    if n_turns < config.min_turns:
        return "too_few_turns", f"{n_turns} turns of the user, the least is {config.min_turns}"
    if config.max_turns is not None and n_turns > config.max_turns:
        return "too_many_turns", f"{n_turns} turns of the user, the most is {config.max_turns}"
    if fault := _find_break(roles):
        return "roles_do_not_alternate", fault
    wanted = (config.last_role,)
    if config.last_role == "usual":
        wanted = ("assistant",) if isinstance(row, Trace) else ("user", "tool")
    last = roles[-1] if roles else "no message"
    if last not in wanted:
        return "last_role", f"ends on {last}, not on {' or '.join(wanted)}"
    return None


def _roles(row: Prompt | Trace) -> list[str]:
    """Of the messages in order, the answer's included."""
    messages = row.messages if isinstance(row, Prompt) else row.prompt.messages
    roles = [role for message in messages if (role := message.get("role", "")) not in _NO_TURN]
    return [*roles, "assistant"] if isinstance(row, Trace) else roles


def _find_break(roles: Sequence[str]) -> str | None:
    """The first message whose role cannot follow the one before it; the user begins."""
    before = "assistant"
    for number, role in enumerate(roles, start=1):
        if number == 1 and role != "user":
            return f"begins with {role}, not with user"
        may_follow = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("assistant", "tool")}[role]
        if before not in may_follow:
            return f"message {number}, system messages aside, is of {role} after {before}"
        before = role
    return None
