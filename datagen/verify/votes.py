"""Votes for answers that may be spelled in several ways: which has most, and whether that is a majority.

A vote for each sampled answer, and the most frequent one wins: Wang et al. 2023, arXiv:2203.11171, section 2. That an
answer's votes are those equal to it, as equality need not be transitive, is our own.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

Same = Callable[[str, str], bool | None]
"""Whether two answers are the same; None where nobody can tell."""


class Majority(NamedTuple):
    """The answer with most votes, in its most frequent spelling, and the votes for it in any spelling."""

    answer: str
    n: int
    tied: bool


def find_majority(votes: Mapping[str, int], same: Same) -> Majority | None:
    """The answer with most votes; None where there is no vote.

    Equality need not be transitive (50 % stands for 50 and for 0.5), so an answer's votes are those equal to itself.

    Args:
        votes: answer as it was written to number of votes.
        same: tells of two answers that were written differently.
    """
    if not votes:
        return None
    support = {one: sum(n for other, n in votes.items() if one == other or same(one, other) is True) for one in votes}
    answer = max(votes, key=lambda one: (support[one], votes[one]))
    tied = any(support[one] == support[answer] and one != answer and same(one, answer) is not True for one in votes)
    return Majority(answer, support[answer], tied)


def is_majority(majority: Majority, n_votes: int) -> bool:
    """Whether it has more than half of the votes."""
    return not majority.tied and 2 * majority.n > n_votes
