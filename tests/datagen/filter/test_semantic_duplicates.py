"""`semantic_duplicates`; oracles: every pair's cosine in float64, one row after the other, and rewordings by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.contracts.records import Document, Prompt, Rejection
from datagen.filter import Row
from datagen.filter import semantic_duplicates as module
from datagen.filter.semantic_duplicates import Config, find_similar, semantic_duplicates


def random_vectors(n: int, seed: int) -> NDArray[np.float32]:
    """Of length one, in 16 dimensions: half of them near an earlier one, by more or less."""
    spread = np.random.default_rng(seed)
    vectors = spread.normal(size=(n, 16))
    for i in range(1, n):
        if spread.random() < 0.5:
            vectors[i] = vectors[spread.integers(i)] + spread.normal(size=16) * spread.uniform(0, 0.5)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def one_by_one(vectors: NDArray[np.float32], threshold: float) -> dict[int, int]:
    """Each row that goes to the nearest of those before it that stay."""
    wide = vectors.astype(np.float64)
    stay: list[int] = []
    gone: dict[int, int] = {}
    for i in range(len(wide)):
        cosines = [float(wide[i] @ wide[j]) for j in stay]
        if cosines and max(cosines) >= threshold:
            gone[i] = stay[cosines.index(max(cosines))]
        else:
            stay.append(i)
    return gone


@pytest.mark.parametrize("block", [5, 64, 1000])
def test_against_every_pair(block: int):
    """600 rows; as said of any size of block."""
    vectors = random_vectors(600, seed=2)
    expected = one_by_one(vectors, 0.9)
    of, cosines = find_similar(vectors.copy(), 0.9, block)
    assert {i: int(j) for i, j in enumerate(of) if j >= 0} == expected and len(expected) > 150
    for i, j in expected.items():
        assert cosines[i] == pytest.approx(float(vectors[i].astype(float) @ vectors[j].astype(float)), abs=1e-6)


def test_a_chain_keeps_its_far_end():
    """Directions at 0, 15 and 30 degrees: cosines 0.966 and 0.866."""
    vectors = np.array([[np.cos(a), np.sin(a)] for a in np.radians([0, 15, 30])], np.float32)
    assert find_similar(vectors.copy(), 0.95)[0].tolist() == [-1, 0, -1]
    assert find_similar(vectors[[1, 0, 2]], 0.95)[0].tolist() == [-1, 0, 0]


def test_rows_added_at_the_end_change_none_before():
    vectors = random_vectors(300, seed=3)
    whole = find_similar(vectors.copy(), 0.9, 50)[0]
    assert find_similar(vectors[:170].copy(), 0.9, 50)[0].tolist() == whole[:170].tolist()


def dropped(rows: Sequence[Row | Rejection], **params: object) -> dict[str, str]:
    """Details by id; every other row must come back as it was, and in order."""
    config = Config.model_validate({"method": "semantic_duplicates", **params})
    out = list(semantic_duplicates(config, rows, None))
    assert [row.id for row in out] == [row.id for row in rows]
    gone = [row for one, row in zip(rows, out, strict=True) if row is not one]
    assert all(isinstance(row, Rejection) and row.reason == "semantic_duplicate" for row in gone)
    return {row.id: row.detail for row in gone if isinstance(row, Rejection)}


TEXTS = [
    "How many people live in the city of Paris?",
    "My dog likes to sleep in the sun.",
    "HOW MANY PEOPLE LIVE IN THE CITY OF PARIS?",  # the same to an uncased encoder
    "How many people are living in the city of Paris?",
    "How do I bake bread without yeast?",
]


def test_rewordings_go_by_the_real_encoder_whatever_the_block(monkeypatch: pytest.MonkeyPatch):
    rows = [Document(id=f"d{i}", text=text) for i, text in enumerate(TEXTS)]
    bad = Rejection(id="f:9", stage="filter", reason="malformed_json", detail="")
    found = dropped([rows[0], bad, *rows[1:]])
    assert set(found) == {"d2", "d3"}
    assert found["d2"] == "means the same as 'd0': cosine 1.000 by all-minilm-l6-v2, threshold 0.95"
    assert found["d3"].startswith("means the same as 'd0': cosine 0.9")
    assert not dropped(rows[:2], threshold=0.5) and set(dropped(rows, threshold=0.999)) == {"d2"}
    monkeypatch.setattr(module, "BLOCK", 2)
    assert dropped(rows) == {id: detail for id, detail in found.items()}


def test_a_long_text_is_all_of_its_windows():
    """About 500 tokens; the second half differs, so that a vector of the first window alone would be the same."""
    first = "The fox lives in the forest near the lake, and it hunts at night. " * 20
    other, third = "Shares of the bank fell after its report. " * 25, "The choir sings in the church on Sundays. " * 25
    rows = [Document(id=str(i), text=text) for i, text in enumerate((first + other, first + third, first + other))]
    assert set(dropped(rows)) == {"2"}


def test_rows_without_a_text_stay():
    empty = [Prompt(id=f"p{i}", messages=[{"role": "user", "content": ""}]) for i in range(2)]
    assert not dropped(empty)
    assert not dropped([])
