"""Oracles: votes counted by hand."""

from collections.abc import Callable

import pytest

from datagen.comparison.majority import CASES, decide, pairs
from datagen.verify.votes import find_majority


def same_in(*classes: set[str], unknown: frozenset[str] = frozenset()) -> Callable[[str, str], bool | None]:
    """Equality by named classes; what is in `unknown` cannot be compared."""

    def same(one: str, other: str) -> bool | None:
        return None if {one, other} & unknown else any({one, other} <= members for members in classes)

    return same


NEVER = same_in()
HALF = same_in({"1/2", "0.5", r"\frac{1}{2}"})


def test_spellings_of_one_answer_are_added_up():
    """2 + 1 + 1 for a half against 3 for 7; the most frequent spelling speaks for all."""
    found = find_majority({"7": 3, "0.5": 1, "1/2": 2, r"\frac{1}{2}": 1}, HALF)
    assert found == ("1/2", 4, False)


def test_an_equality_that_is_not_transitive():
    """50 % equals 50 and 0.5, which differ: 50 % has all three votes."""
    same = same_in({"50%", "50"}, {"50%", "0.5"})
    assert find_majority({"50": 1, "0.5": 1, "50%": 1}, same) == ("50%", 3, False)


def test_a_tie_is_seen_whatever_the_order():
    assert find_majority({"1": 2, "2": 2, "3": 1}, NEVER) == ("1", 2, True)
    assert find_majority({"2": 2, "3": 1, "1": 2}, NEVER) == ("2", 2, True)
    assert find_majority({}, NEVER) is None


@pytest.mark.parametrize(
    ("reference", "votes", "second", "case"),
    [
        ("9", {"7": 3, "8": 1}, {"7": 1}, "repaired"),
        ("9", {"7": 3, "8": 1}, {"9": 1}, "second_disagrees"),
        ("9", {"7": 3, "8": 1}, {"8": 1}, "second_disagrees"),
        ("9", {"7": 3, "8": 1}, {}, "no_second"),
        ("9", {"7": 3, "8": 1}, {"7": 1, "8": 1}, "no_second"),  # a second source that contradicts itself
        ("9", {"7": 2, "8": 2}, {"7": 1}, "tie"),
        ("9", {"7": 2, "8": 1, "9": 1}, {"7": 1}, "no_majority"),  # half is not more than half
        ("9", {"7": 2}, {"7": 1}, "too_few_votes"),
        ("9", {}, {"7": 1}, "too_few_votes"),
        ("7", {"7": 3, "8": 1}, {"8": 1}, "agrees"),
        ("0.5", {"1/2": 3}, {"7": 1}, "agrees"),
        ("7", {r"\frac{1}{2}": 3}, {"0.5": 1}, "repaired"),
        (None, {"7": 3}, {"7": 1}, "no_reference"),
    ],
)  # fmt: skip
def test_the_case_of_a_prompt(reference: str | None, votes: dict[str, int], second: dict[str, int], case: str):
    assert case in CASES
    assert decide(reference, votes, second, HALF, min_votes=3, min_share=0.5) == case


def test_a_larger_share_may_be_wanted():
    assert decide("9", {"7": 3, "8": 1}, {"7": 1}, NEVER, min_votes=3, min_share=0.8) == "no_majority"


@pytest.mark.parametrize("unknown", ["9", "x"])
def test_nothing_is_repaired_on_an_equality_that_nobody_could_tell(unknown: str):
    """Whether the majority is the reference, or what the second source says, timed out."""
    same = same_in({"7", "x"}, unknown=frozenset({unknown}))
    assert decide("9", {"7": 4}, {"x": 1}, same, min_votes=3, min_share=0.5) == "undecided"


def test_every_pair_that_is_asked_for_was_compared():
    """Four different texts make six pairs."""
    asked = pairs("9", {"7": 3, "8": 1}, {"7": 1, "5": 1})
    assert len(asked) == 6 and len({frozenset(pair) for pair in asked}) == 6
