"""Exact nearest neighbours; oracles: a loop over all pairs, in integers, so that every product is exact."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.backends.neighbours import Neighbours, _by_torch, nearest, nearest_both, open_vectors
from datagen.contracts.errors import DataError


def integers(n_rows: int, seed: int) -> np.ndarray:
    """Few values, so that many products are equal."""
    return np.random.default_rng(seed).integers(-3, 4, (n_rows, 5)).astype(np.float32)


def by_loop(vectors: np.ndarray, others: np.ndarray) -> tuple[list[float], list[int]]:
    """The greatest product of each row, and the first that has it."""
    products = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in others.tolist()] for x in vectors.tolist()]
    return [max(row) for row in products], [row.index(max(row)) for row in products]


@pytest.mark.parametrize(("n_rows", "n_others", "block"), [(23, 40, 7), (150, 131, 97), (1, 1, 4), (5, 300, 4096)])
def test_both_ways_are_those_of_a_loop(n_rows: int, n_others: int, block: int):
    """In blocks and strips that divide neither side; of equal ones the first is named."""
    vectors, others = integers(n_rows, 1), integers(n_others, 2)
    of_vectors, of_others = nearest_both(vectors, others, block=block)
    assert (of_vectors.similarities.tolist(), of_vectors.rows.tolist()) == by_loop(vectors, others)
    assert (of_others.similarities.tolist(), of_others.rows.tolist()) == by_loop(others, vectors)
    one_way = nearest(vectors, others, block=block)
    assert one_way.rows.tolist() == of_vectors.rows.tolist()


def test_one_below_the_least_is_not_named():
    vectors, others = integers(23, 3), integers(40, 4)
    greatest, which = by_loop(vectors, others)
    found = nearest(vectors, others, least=20, block=7)
    assert found.similarities.tolist() == greatest
    assert found.rows.tolist() == [row if top >= 20 else -1 for top, row in zip(greatest, which, strict=True)]
    assert 0 < sum(top < 20 for top in greatest) < 23


def test_no_other_is_no_neighbour():
    found, of_others = nearest_both(integers(3, 0), np.empty((0, 5), np.float32))
    assert found.rows.tolist() == [-1] * 3 and np.isneginf(found.similarities).all() and not len(of_others.rows)


def test_files_are_read_block_by_block(tmp_path: Path):
    """2,000 x 30,000 in half precision: 120 MB of products and 24 MB of vectors in float32; a fraction is in memory."""
    spread = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", spread.normal(size=(2000, 200)).astype(np.float16))
    np.save(tmp_path / "b.npy", spread.normal(size=(30_000, 200)).astype(np.float16))
    vectors, others = open_vectors(tmp_path / "a.npy"), open_vectors(tmp_path / "b.npy")
    tracemalloc.start()
    found = nearest(vectors, others, block=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6
    for i in (0, 777, 1999):
        products = np.asarray(others, np.float64) @ np.asarray(vectors[i], np.float64)
        assert found.rows[i] == products.argmax()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_named_with_its_row(bad: float):
    vectors, others = integers(23, 1), integers(40, 2)
    others[31, 3] = bad
    with pytest.raises(DataError, match=rf"against\.npy: row 31 holds {bad}; a vector is finite"):
        nearest(vectors, others, block=7, names=("extracted.npy", "against.npy"))
    with pytest.raises(DataError, match="vectors: row 31 holds"):
        nearest_both(others, vectors, block=7)


def test_vectors_of_two_embedders_are_refused():
    with pytest.raises(DataError, match=r"3 vectors of 5 dimensions, others 2 vectors of 4 dimensions; embed both by"):
        nearest(integers(3, 0), np.ones((2, 4), np.float32))


def test_a_file_that_holds_no_vectors_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent\.npy: no such file"):
        open_vectors(tmp_path / "absent.npy")
    np.save(tmp_path / "row.npy", np.ones(4, np.float32))
    with pytest.raises(DataError, match=r"row\.npy: holds float32 of shape \(4,\)"):
        open_vectors(tmp_path / "row.npy")
    (tmp_path / "text.npy").write_text("vectors")
    with pytest.raises(DataError, match=r"text\.npy: no \.npy file of numbers"):
        open_vectors(tmp_path / "text.npy")


def test_what_a_gpu_does_is_the_same_on_the_cpu():
    """Its way of finding the first of equal ones, on the device that is always there."""
    vectors, others = integers(50, 1), integers(70, 2)
    found = [Neighbours(np.full(n, -np.inf, np.float32), np.full(n, -1, np.int64)) for n in (50, 70)]
    compare = _by_torch("cpu", both=True)
    for start in range(0, 50, 20):
        for first in range(0, 70, 30):
            compare(vectors[start : start + 20], others[first : first + 30], start, first, *found, -np.inf)
    assert (found[0].similarities.tolist(), found[0].rows.tolist()) == by_loop(vectors, others)
    assert (found[1].similarities.tolist(), found[1].rows.tolist()) == by_loop(others, vectors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_finds_the_same(monkeypatch: pytest.MonkeyPatch):
    """Integers again, so that ties are exact; enough rows that they go to the GPU."""
    monkeypatch.setenv("DATASTILL_DEVICE", "cuda")
    vectors, others = integers(9000, 1), integers(9001, 2)
    there = nearest_both(vectors, others)
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")
    here = nearest_both(vectors, others)
    for one, other in zip(there, here, strict=True):
        assert np.array_equal(one.similarities, other.similarities) and np.array_equal(one.rows, other.rows)
