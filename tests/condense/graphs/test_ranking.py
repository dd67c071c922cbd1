"""Oracle: Python's own order of tuples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from condense.graphs._ranking import rank_rows, sort_within

ROWS = some.integers(0, 4).flatmap(
    lambda n: some.lists(some.tuples(*[some.sampled_from([0, 1, 5, 2**31, 2**61])] * n), max_size=12).map(
        lambda rows: (n, rows)
    )
)


@given(ROWS)
def test_ranks_are_those_of_sorted_tuples(case: tuple[int, list[tuple[int, ...]]]):
    n, rows = case
    ranks, first = rank_rows(np.array(rows, dtype=np.int64).reshape(len(rows), n))
    expected = sorted(set(rows))
    assert ranks.tolist() == [expected.index(row) for row in rows]
    assert [rows[i] for i in first] == expected


@pytest.mark.parametrize("span", [7, 2**61])
def test_values_of_each_owner_in_order(span: int):
    """A span that fits beside the owners in one word, and one that does not."""
    draw = np.random.default_rng(0)
    owners, values = draw.integers(0, 5, 60), draw.integers(0, span, 60)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=5))])
    expected = [value for _, value in sorted(zip(owners.tolist(), values.tolist(), strict=True))]
    assert sort_within(owners, values, offsets, span).tolist() == expected
