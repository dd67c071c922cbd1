import random

from hypothesis import given
from hypothesis import strategies as st

from trainers.packing import LEAST_USED, best_fit, packed


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 80))
def test_rows_part_the_documents_and_hold_them(lengths: list[int], width: int):
    """Oracle: the multiset of documents, and each row's sum; a document longer than a row is alone."""
    rows = best_fit(lengths, width)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= width or len(row) == 1 for row in rows)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=7), st.integers(10, 15))
def test_at_most_11_ninths_of_the_fewest_rows(lengths: list[int], width: int):
    """Johnson's bound, 11/9 of the optimum and 6/9; oracle: the optimum, by trying every place of every document."""
    fewest = len(lengths)

    def place(i: int, rows: list[int]) -> None:
        nonlocal fewest
        if i == len(lengths):
            fewest = min(fewest, len(rows))
            return
        for at, used in enumerate(rows):
            if used + lengths[i] <= width:
                place(i + 1, [*rows[:at], used + lengths[i], *rows[at + 1 :]])
        if len(rows) + 1 < fewest:
            place(i + 1, [*rows, lengths[i]])

    place(0, [])
    assert len(best_fit(lengths, width)) <= 11 / 9 * fewest + 6 / 9


def test_best_fit_by_hand():
    """7 opens a row of 10, 5 the next, where 4 fits alone; 3 goes to the 7, as no other row has room for it."""
    assert best_fit([3, 7, 5, 4], 10) == [[1, 0], [2, 3]]
    assert best_fit([6, 5, 4, 5], 10) == [[0, 2], [1, 3]]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_few_slots_are_empty_whatever_the_lengths(lengths: list[int]):
    """Oracle: tokens over slots, counted here."""
    rows = packed(lengths)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert sum(lengths) >= LEAST_USED * len(rows) * max(sum(lengths[i] for i in row) for row in rows)


def test_lengths_of_answers_leave_few_slots_empty_in_narrow_rows():
    """Log-normal lengths, as answers have them; padding to the longest would use about a third."""
    draw = random.Random(0)
    lengths = [round(draw.lognormvariate(5.0, 0.6)) + 20 for _ in range(64)]
    rows = packed(lengths)
    width = max(sum(lengths[i] for i in row) for row in rows)
    assert sum(lengths) / (len(lengths) * max(lengths)) < 0.5
    assert sum(lengths) / (len(rows) * width) >= 0.95
    assert width <= 1.5 * max(lengths)
