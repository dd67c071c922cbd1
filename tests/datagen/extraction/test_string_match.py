"""Edit and indel similarity; oracles: both distances by their recursion, every pair looked at."""

import random

import pytest

from datagen.backends.neighbours import Neighbours
from datagen.extraction import string_match
from datagen.extraction.string_match import edit_similarity, indel_similarity, nearest_by_edits, nearest_by_indels


def levenshtein(one: str, other: str) -> int:
    """Wagner and Fischer, a whole table."""
    table = [[*range(len(other) + 1)]]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(row[-1] + 1, table[-1][j] + 1, table[-1][j - 1] + (a != b)))
        table.append(row)
    return table[-1][-1]


def common_subsequence(one: str, other: str) -> int:
    """The length of the longest."""
    table = [[0] * (len(other) + 1)]
    for a in one:
        row = [0]
        for j, b in enumerate(other, 1):
            row.append(table[-1][j - 1] + 1 if a == b else max(row[-1], table[-1][j]))
        table.append(row)
    return table[-1][-1]


def edits(one: str, other: str) -> float:
    return 1 - levenshtein(one, other) / max(len(one), len(other))


def indels(one: str, other: str) -> float:
    return 2 * common_subsequence(one, other) / (len(one) + len(other))


def words(n: int, seed: int) -> list[str]:
    """Of few letters, so that many similarities are equal; some beyond 64 characters, one with other alphabets."""
    drawn = random.Random(seed)
    texts = ["".join(drawn.choices("ab ", k=drawn.choice([1, 3, 8, 20, 70]))) for _ in range(n)]
    return [*texts, "Straße, 東京 🙂"]


@pytest.mark.parametrize(
    ("similarity", "nearest", "by_hand"),
    [(edit_similarity, nearest_by_edits, edits), (indel_similarity, nearest_by_indels, indels)],
)
def test_similarities_and_neighbours_are_those_of_the_recursion(
    similarity, nearest, by_hand, monkeypatch: pytest.MonkeyPatch
):
    """In blocks of 7, both ways; of equal ones the first."""
    monkeypatch.setattr(string_match, "BLOCK", 7)
    texts, others = words(22, 1), words(30, 2)
    table = [[by_hand(one, other) for other in others] for one in texts]
    for one, row in zip(texts, table, strict=True):
        assert [similarity(one, other) for other in others] == pytest.approx(row, abs=1e-12)
    of_texts, of_others = nearest(texts, others, workers=2)
    check(of_texts, table)
    check(of_others, [list(column) for column in zip(*table, strict=True)])


def check(found: Neighbours, table: list[list[float]]) -> None:
    assert found.similarities.tolist() == pytest.approx([max(row) for row in table], abs=1e-6)
    first = [next(i for i, one in enumerate(row) if one > max(row) - 1e-9) for row in table]
    assert found.rows.tolist() == first


def test_by_hand():
    """Kitten and sitting: 3 edits of 7 characters; 4 common ones of 13, ittn."""
    assert edit_similarity("kitten", "sitting") == pytest.approx(4 / 7)
    assert indel_similarity("kitten", "sitting") == pytest.approx(8 / 13)
    assert edit_similarity("a", "") == indel_similarity("a", "") == 0


def test_without_others_there_is_no_neighbour():
    of_texts, of_others = nearest_by_edits(["a", "b"], [])
    assert of_texts.rows.tolist() == [-1, -1] and not len(of_others.rows)
