"""What most answers to a prompt say, and whether its reference should give way to it.

Tian et al. DeepDistill. 2025. arXiv:2504.17565: where the answers of the models contradict the label and a second
source agrees with them, the label is wrong. Where the paper is silent: a vote is one answer that can be read; answers
are the same by the verifier's equality; a majority is more than half of the votes, so a tie is none; where an equality
that matters cannot be found out, the reference stays.
"""

from collections.abc import Mapping
from itertools import combinations

from datagen.verify.votes import Same, find_majority, is_majority

CASES = {
    "repaired": "the second source agrees with the majority, so the reference was replaced",
    "agrees": "the majority is the reference",
    "no_reference": "the prompt has no reference",
    "too_few_votes": "fewer answers could be read than are wanted",
    "tie": "two answers have the most votes",
    "no_majority": "no answer has the share of the votes that is wanted",
    "no_second": "the majority contradicts the reference, and the second source has no answer",
    "second_disagrees": "the majority contradicts the reference, and the second source contradicts the majority",
    "undecided": "whether two of the answers are the same could not be found out",
}


def decide(
    reference: str | None,
    votes: Mapping[str, int],
    second: Mapping[str, int],
    same: Same,
    *,
    min_votes: int,
    min_share: float,
) -> str:
    """The case that a prompt is, one of CASES.

    Args:
        reference: the prompt's own answer.
        votes: of the teachers.
        second: votes of the second source; a label is one vote.
        same: equality of answers.
        min_votes: teachers' votes without which nothing is decided.
        min_share: of the teachers' votes that the majority needs, besides being more than half.
    """
    if reference is None:
        return "no_reference"
    n_votes = sum(votes.values())
    majority = find_majority(votes, same)
    if majority is None or n_votes < min_votes:
        return "too_few_votes"
    if majority.tied:
        return "tie"
    if not is_majority(majority, n_votes) or majority.n < min_share * n_votes:
        return "no_majority"
    agrees = _same(same, reference, majority.answer)
    if agrees is not False:
        return "agrees" if agrees else "undecided"
    other = find_majority(second, same)
    if other is None or not is_majority(other, sum(second.values())):
        return "no_second"
    confirmed = _same(same, other.answer, majority.answer)
    if confirmed is None:
        return "undecided"
    return "repaired" if confirmed else "second_disagrees"


def pairs(reference: str | None, votes: Mapping[str, int], second: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every pair of different texts whose equality `decide` may ask for, each in one order."""
    texts = dict.fromkeys([*([reference] if reference is not None else []), *second, *votes])
    return list(combinations(texts, 2))


def _same(same: Same, one: str, other: str) -> bool | None:
    return True if one == other else same(one, other)
