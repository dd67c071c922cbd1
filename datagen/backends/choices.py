"""Several samples of one conversation from one request: which share it, and what each of them cost.

A server that is asked for `n` choices reads the prompt once and bills it once. Samples with the indexes
[g * size, (g + 1) * size) of one conversation are a group, whatever the ledger holds; a method that asks for fewer of
them makes a smaller group.

So that the rows of a group add up to its bill, its first answer bears the prompt's tokens and the others 0. The
answer's tokens are the lengths of `token_ids`, where the server gives them for all choices and they add up to its own
count; else that count is divided in proportion to the UTF-8 bytes of the texts, what remains going to the largest
fractions (Hamilton's method), of equal ones to the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from datagen.backends.base import Completion, Request
from datagen.backends.chat_format import says_something
from datagen.contracts.errors import ParamsError


class Groups(Iterator[list[Request]]):
    """The requests, those that stand beside each other and share a group together.

    Where the requests end for now and go on later, so do the groups.
    """

    def __init__(self, requests: Iterator[Request], size: int) -> None:
        self._requests = requests
        self._size = size
        self._ahead: Request | None = None  # drawn, and of the next group

    def __next__(self) -> list[Request]:
        """The next group.

        Raises:
            ParamsError: it begins inside a group, so its other samples were not asked for at once.
        """
        first, self._ahead = self._ahead or next(self._requests), None
        if first.sample_index % self._size:
            raise ParamsError(
                f"choices_per_request: sample {first.sample_index} is asked for without those before it, and "
                f"{self._size} share a request; ask for as many at once, or set choices_per_request=1"
            )
        group = [first]
        while len(group) < self._size and (request := next(self._requests, None)):
            if not _follows(group[-1], request):
                self._ahead = request
                break
            group.append(request)
        return group


def _follows(one: Request, other: Request) -> bool:
    """Whether it is the same conversation's next sample; a sample has a seed of its own."""
    return (
        other.sample_index == one.sample_index + 1
        and other.messages == one.messages
        and other.prompt == one.prompt
        and other.tools == one.tools
        and other.response_schema == one.response_schema
        and other.sampling.__dict__ | {"seed": 0} == one.sampling.__dict__ | {"seed": 0}
    )


def share_usage(choices: Sequence[Completion | None]) -> list[Completion | None]:
    """Each choice with its own part of the tokens that the server counted for all, by the rule above.

    Args:
        choices: at least one that is there; each holds the counts of the whole reply.
    """
    there = [place for place, choice in enumerate(choices) if choice]
    first = next((place for place in there if (one := choices[place]) and says_something(one)), there[0])
    counts = dict(zip(there, _completion_tokens([one for one in choices if one]), strict=True))
    return [
        one and replace(
            one,
            n_prompt_tokens=one.n_prompt_tokens if place == first else 0,
            n_completion_tokens=counts[place],
        )
        for place, one in enumerate(choices)
    ]  # fmt: skip


def total(counts: Sequence[int | None]) -> int | None:
    """Their sum, None where one is not known."""
    known = [one for one in counts if one is not None]
    return sum(known) if len(known) == len(counts) else None


def _completion_tokens(choices: Sequence[Completion]) -> Sequence[int | None]:
    counted = choices[0].n_completion_tokens
    by_ids = [None if one.token_ids is None else len(one.token_ids) for one in choices]
    if total(by_ids) is not None and counted in (None, total(by_ids)):
        return by_ids
    return by_ids if counted is None else divide(counted, [_n_bytes(one) for one in choices])


def divide(n: int, weights: Sequence[int]) -> list[int]:
    """`n` in whole parts in proportion to the weights, by the largest remainder; equal parts where all are 0."""
    weights = weights if any(weights) else [1] * len(weights)
    parts = [n * weight // sum(weights) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(n * weights[i] % sum(weights)), i))
    for i in by_remainder[: n - sum(parts)]:
        parts[i] += 1
    return parts


def _n_bytes(choice: Completion) -> int:
    texts = (choice.text, choice.reasoning, choice.tool_calls)
    return sum(len(text.encode()) for text in texts if text)
