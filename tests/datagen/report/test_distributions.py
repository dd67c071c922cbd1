"""How answers are spread: bins counted by hand, and by numpy's histogram; teachers by their own answers."""

from pathlib import Path

import numpy as np
import polars as pl

from datagen.report.distributions import N_BINS, bins, by_teacher, passes, spread_sections
from tests.datagen.conftest import write_pipeline


def test_bins_are_numpy_s():
    """Oracle: numpy.histogram over the same edges, kept and dropped apart; nulls and NaN are left out."""
    values = np.random.default_rng(0).normal(size=1000)
    passed = values > 0.3
    rows = pl.LazyFrame({"score": [*values, None, float("nan")], "passed": [*passed.tolist(), True, True]})
    found = bins(rows, "score")
    edges = np.linspace(values.min(), values.max(), N_BINS + 1)
    assert [one.n_kept for one in found] == np.histogram(values[passed], edges)[0].tolist()
    assert [one.n_dropped for one in found] == np.histogram(values[~passed], edges)[0].tolist()


def test_a_bin_of_whole_numbers_holds_each_of_them():
    """Five values from 3 to 7 need five bins, one number each; of one value there is one bin, of none none."""
    rows = pl.LazyFrame({"n_tokens": [3, 3, 4, 7, 7, 7], "passed": [True, False, True, True, True, False]})
    found = bins(rows, "n_tokens")
    assert [(one.low, one.n_kept, one.n_dropped) for one in found] == [
        (3, 1, 1), (4, 1, 0), (5, 0, 0), (6, 0, 0), (7, 2, 1)
    ]  # fmt: skip
    assert len(bins(rows.filter(pl.col("n_tokens") == 7), "n_tokens")) == 1
    assert bins(rows.clear(), "n_tokens") == []


def test_prompts_are_counted_by_how_many_of_their_attempts_passed():
    """By hand: a 2 of 3, b 0 of 1, c 0 of 3; where every prompt had one attempt there is nothing to show."""
    passed = {"a": [True, True, False], "b": [False], "c": [False] * 3}
    rows = [(prompt, one) for prompt, found in passed.items() for one in found]
    answers = pl.LazyFrame({"prompt_id": [prompt for prompt, _ in rows], "passed": [one for _, one in rows]})
    assert [(one.n_kept, one.n_dropped) for one in passes(answers)] == [(0, 2), (0, 0), (1, 0), (0, 0)]
    assert passes(answers.unique("prompt_id")) == []


def test_teachers_side_by_side():
    """By hand: one passed 1 of 3 for 10 + 20 + 60 tokens, two 2 of 2 for 5 + 7, three none of 1."""
    answers = pl.LazyFrame(
        {
            "prompt_id": ["a", "a", "b", "a", "b", "a"],
            "teacher": ["one", "one", "one", "two", "two", "three"],
            "n_completion_tokens": [10, 20, 60, 5, 7, 3],
            "passed": [True, False, False, True, True, False],
        }
    )
    found = [
        (row["teacher"], row["rate"].n_passed, row["n"], row["median"], row["per_verified"])
        for row in by_teacher(answers)
    ]
    assert found == [("one", 1, 3, 20, 90), ("two", 2, 2, 6, 6), ("three", 0, 1, 3, None)]


def test_tokens_that_nobody_counted_are_not_none():
    """By hand: of one no answer is counted, of two one of two, of three both: 4 + 6 tokens for one that passed."""
    answers = pl.LazyFrame(
        {
            "prompt_id": ["a", "b"] * 3,
            "teacher": ["one", "one", "two", "two", "three", "three"],
            "n_completion_tokens": [None, None, 8, None, 4, 6],
            "passed": [True, True, True, True, True, False],
        }
    )
    found = {row["teacher"]: (row["median"], row["per_verified"]) for row in by_teacher(answers)}
    assert found == {"one": (None, None), "two": (8, None), "three": (5, 10)}


def test_a_run_with_one_teacher_has_no_comparison(tmp_path: Path):
    """Six of twelve answers passed, so each of six prompts has one attempt of two."""
    write_pipeline(tmp_path)
    html = spread_sections(tmp_path / "data" / "verified")
    assert 'id="spread"' in html and 'id="teachers"' not in html
    assert "1 to 2: 6 prompts kept, 0 dropped" in html
    write_pipeline(tmp_path / "empty", n_prompts=0)
    assert spread_sections(tmp_path / "empty" / "data" / "verified") == ""
