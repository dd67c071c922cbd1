"""Oracle: the dense matrix, and scipy's own compressed rows."""

import re
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from datagen.contracts.sparse_rows import SparseRows

DENSE = np.array([[0, 2, 0, -2], [0, 0, 0, 0], [1, 0, 0, 3], [0, 0, 5, 0]], dtype=np.float32)


def test_rows_are_those_of_scipy():
    rows, theirs = SparseRows.of(DENSE), csr_matrix(DENSE)
    assert rows.offsets.tolist() == theirs.indptr.tolist()
    assert rows.columns.tolist() == theirs.indices.tolist()
    assert rows.values.tolist() == theirs.data.tolist()
    assert len(rows) == 4 and rows.n_columns == 4 and rows.density == 5 / 16
    assert np.array_equal(rows.dense(), DENSE)


def test_rows_are_taken_in_any_order_and_minus_one_is_none():
    chosen = np.array([3, 0, -1, 0, 2])
    expected = np.concatenate([DENSE, np.zeros((1, 4))])[chosen]
    assert np.array_equal(SparseRows.of(DENSE).take(chosen).dense(), expected)
    assert len(SparseRows.of(DENSE).take(np.array([], dtype=np.int64))) == 0


def test_rows_over_their_sums():
    """Of absolute values; a row of zeros stays one."""
    expected = [[0, 0.5, 0, -0.5], [0, 0, 0, 0], [0.25, 0, 0, 0.75], [0, 0, 1, 0]]
    assert SparseRows.of(DENSE).normalised().dense().tolist() == expected


def test_a_column_that_comes_twice_is_the_sum():
    rows = SparseRows(
        offsets=np.array([0, 3]), columns=np.array([1, 1, 0]), values=np.array([2, 3, 1], dtype=np.float32), n_columns=2
    )
    assert rows.problem() is None and rows.dense().tolist() == [[1, 5]]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"offsets": np.array([0, 2, 1, 5, 5])}, "offsets do not rise from 0 to the 5 columns"),
        ({"offsets": np.array([0, 2, 2, 4, 4])}, "offsets do not rise"),
        ({"offsets": np.array([[0, 5]])}, r"offsets have shape \(1, 2\)"),
        ({"values": np.ones(4, dtype=np.float32)}, "4 values for 5 columns"),
        ({"n_columns": 3}, "columns run from 0 to 3; there are 3"),
        ({"n_columns": 0}, "0 columns"),
        ({"values": np.full(5, np.nan, dtype=np.float32)}, "NaN or infinity"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, Any], says: str):
    rows = SparseRows.of(DENSE)
    fields = {name: getattr(rows, name) for name in ("offsets", "columns", "values", "n_columns")}
    assert re.search(says, SparseRows(**fields | changed).problem() or "nothing")
