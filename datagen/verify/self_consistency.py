"""The answer that most attempts at a prompt give is taken to be right: no reference is needed.

Wang et al. Self-Consistency Improves Chain of Thought Reasoning in Language Models. 2023. arXiv:2203.11171, section 2:
the most frequent answer over sampled reasoning paths, each with one vote. Here answers are read as `math_answer` reads
them and are the same by its equality, so 1/2 and 0.5 vote together. Departures: a tie has no winner; `min_votes` and
`min_share` may ask for more than a plurality.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby, islice
from typing import Any, Literal

from pydantic import Field

from datagen.contracts.cluster import n_workers
from datagen.contracts.errors import DataError
from datagen.contracts.params import Params
from datagen.contracts.records import Status, Trace, Verdict
from datagen.verify.answers import MAX_ANSWER_CHARS, Answer, equal, find_answer
from datagen.verify.pool import in_order
from datagen.verify.votes import Majority, Same, find_majority

NAME = "self_consistency"
PASS_IS_AGREEMENT = True  # not a finding that one answer is right, so the stage computes no rate of passing from it


class Config(Params):
    """`min_votes` attempts with an answer, and `min_share` of them for the winner, else no attempt at a prompt passes.

    `timeout_s` bounds one comparison of two answers.
    """

    method: Literal["self_consistency"]
    min_votes: int = Field(2, ge=2)
    min_share: float = Field(0.0, ge=0, le=1)
    timeout_s: float = Field(default=10.0, gt=0)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The attempts at one prompt, the answer of each, and the pairs of spellings to compare, which follow it."""

    traces: list[Trace]
    answers: list[Answer | None]
    pairs: list[tuple[str, str]]


def self_consistency(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """`pass` where an attempt's answer is the one with most votes, else `fail`; without a winner `unparsed`.

    Eight bytes of each prompt's id are held, about 60 MB for a million prompts.

    Raises:
        DataError: the attempts at a prompt do not stand together.
    """
    items = in_order(_compared(config, traces), n_workers(), ("math_verify",))
    for item in items:
        assert isinstance(item, _Prompt)
        results = [one if isinstance(one, bool) else None for one in islice(items, len(item.pairs))]
        yield from _judge(config, item, dict(zip(item.pairs, results, strict=True)))


def _compared(config: Config, traces: Iterable[Trace]) -> Iterator[Any]:
    """Every prompt, and after it what `equal` says of its pairs."""
    seen: set[bytes] = set()
    for prompt_id, group in groupby(traces, key=lambda trace: trace.prompt.id):
        digest = hashlib.sha256(prompt_id.encode()).digest()[:8]
        if digest in seen:
            raise DataError(
                f"attempts at the prompt {prompt_id!r} stand apart, and self_consistency counts those that stand "
                "together; sort the rows by prompt"
            )
        seen.add(digest)
        attempts = list(group)
        answers = [_read(trace.completion) for trace in attempts]
        pairs = list(combinations(dict.fromkeys(one.text for one in answers if one), 2))
        yield _Prompt(attempts, answers, pairs)
        for one, other in pairs:
            yield equal(one, other, config.timeout_s)


def _read(completion: str) -> Answer | None:
    answer = find_answer(completion)
    return answer if answer and len(answer.text) <= MAX_ANSWER_CHARS else None


def _judge(config: Config, prompt: _Prompt, found: dict[tuple[str, str], bool | None]) -> Iterator[Verdict]:
    def same(one: str, other: str) -> bool | None:
        return found[one, other] if (one, other) in found else found[other, one]

    votes = Counter(answer.text for answer in prompt.answers if answer)
    winner = find_majority(votes, same)
    n_votes = votes.total()
    for trace, answer in zip(prompt.traces, prompt.answers, strict=True):
        status, reason, detail = _finding(config, answer, winner, n_votes, same)
        yield Verdict(
            id=trace.id, method=NAME, status=status, score=float(status == "pass"),
            answer=answer.text if answer else None, reason=reason, detail=detail,
        )  # fmt: skip


def _finding(
    config: Config, answer: Answer | None, winner: Majority | None, n_votes: int, same: Same
) -> tuple[Status, str | None, str]:
    if answer is None:
        return "unparsed", "no_answer", "no answer found"
    assert winner is not None
    given = f"{answer.rule}: {answer.text}"
    count = f"{winner.n} of {n_votes} votes are for {winner.answer}"
    if n_votes < config.min_votes:
        return "unparsed", "too_few_votes", f"{given}; {n_votes} votes, min_votes is {config.min_votes}"
    if winner.tied:
        return "unparsed", "tie", f"{given}; {count}, and as many for another answer"
    if winner.n < config.min_share * n_votes:
        return "unparsed", "no_majority", f"{given}; {count}, min_share is {config.min_share:g}"
    agrees = answer.text == winner.answer or same(answer.text, winner.answer)
    if agrees is None:
        return "unparsed", "unparsed", f"{given}; {count}, and whether the two are the same could not be found out"
    return ("pass", None, f"{given}; {count}") if agrees else ("fail", "minority", f"{given}; {count}")
