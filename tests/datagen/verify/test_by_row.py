import itertools
from collections.abc import Iterator

import pytest

from datagen.contracts.records import Constraint, Prompt, Trace, Verdict
from datagen.verify.by_row import Config, by_row

QUOTED: list[Constraint] = [{"id": "startend:quotation", "kwargs": "{}"}]
TWO: list[Constraint] = [*QUOTED, {"id": "keywords:existence", "kwargs": '{"keywords": ["seven"]}'}]


def trace(id: str, completion: str, constraints: list[Constraint], reference: str | None) -> Trace:
    prompt = Prompt(id=id, messages=[], constraints=constraints, reference=reference)
    return Trace(id=id, prompt=prompt, completion=completion)


@pytest.mark.parametrize(
    ("completion", "constraints", "reference", "expected"),
    [
        ('"7"', QUOTED, None, ("pass", 1.0, None)),
        ("7", QUOTED, None, ("fail", 0.0, "startend:quotation")),
        ("7", [], "7", ("pass", 1.0, None)),
        ("8", [], "7", ("fail", 0.0, "wrong_answer")),
        ('"7"', QUOTED, "7", ("pass", 1.0, None)),
        ('"8"', QUOTED, "7", ("fail", 0.0, "wrong_answer")),
        ("7", QUOTED, "7", ("fail", 0.0, "startend:quotation")),
        ("8", QUOTED, "7", ("fail", 0.0, "startend:quotation")),
        ('"7"', TWO, "7", ("fail", 0.5, "keywords:existence")),
        ('"seven"', TWO, "7", ("unparsed", 0.0, "no_answer")),
        ("seven", TWO, "7", ("fail", 0.0, "startend:quotation")),
        ("7", [], None, ("error", 0.0, "no_reference")),
    ],
)
def test_a_row_is_judged_by_what_it_carries(
    completion: str, constraints: list[Constraint], reference: str | None, expected: tuple[str, float, str | None]
):
    """By hand: with both, both must pass; a failure outweighs a missing answer."""
    (verdict,) = by_row(Config(), [trace("a", completion, constraints, reference)])
    assert (verdict.status, verdict.score, verdict.reason) == expected


def test_mixed_rows_in_order_and_read_ahead_by_a_bounded_number():
    """Rows that carry either, both or nothing, without end."""
    kinds = [(QUOTED, None), ([], "7"), (QUOTED, "7"), ([], None)]
    n_read = 0

    def endless() -> Iterator[Trace]:
        nonlocal n_read
        for n_read in itertools.count(1):
            yield trace(str(n_read), '"7"', *kinds[n_read % 4])

    first: list[Verdict] = list(itertools.islice(by_row(Config(), endless()), 4000))
    assert [verdict.id for verdict in first] == [str(i) for i in range(1, 4001)]
    assert [verdict.status for verdict in first] == ["pass", "pass", "error", "pass"] * 1000
    assert n_read < 4000 + 1025
