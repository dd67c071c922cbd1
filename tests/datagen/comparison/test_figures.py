"""Oracles: counts by hand, every order of attempts tried, the published token totals."""

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import polars as pl
import pytest

from datagen.comparison.figures import SCHEMA, Price, bin_width, by_teacher, histogram
from datagen.comparison.ordering import compare_orders
from datagen.report.figures import ALL


def attempt(prompt: str, index: int, verified: bool, **more: Any) -> dict[str, Any]:
    row = {"teacher": "t", "family": "f", "prompt_id": prompt, "sample_index": index, "answered": True,
           "verified": verified, "n_tokens": 10, "nll": None, "looping": False, "repeated_share": None,
           "n_prompt_tokens": 100, "n_completion_tokens": 10}  # fmt: skip
    return row | more


def count(rows: list[dict[str, Any]], **more: Any) -> dict[str, dict[str, dict[str, Any]]]:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return by_teacher(frame, more.pop("prices", {}), max_perplexity=20, **more)


def test_attempts_to_first_success_with_an_unsolved_prompt():
    """One prompt is solved at once, one at the third attempt, one not in three: 4/2 of the solved, at least 7/3."""
    passed = {"a": [True, False, True], "b": [False, False, True], "c": [False] * 3}
    rows = [attempt(prompt, i, ok) for prompt, oks in passed.items() for i, ok in enumerate(oks)]
    found = count(rows[::-1])["t"][ALL]  # whatever the order of the rows
    assert (found["n_solved"], found["n_unsolved"], found["by_attempt"]) == (2, 1, {"1": 1, "3": 1})
    assert found["first_success"] == 2.0  # (1 + 3) / 2
    assert found["first_success_at_least"] == round(7 / 3, 4)
    assert found["first_success_expected"] == round(float(mean_first(passed["a"]) + mean_first(passed["b"])) / 2, 4)
    assert (found["n_prompts"], found["n_attempts"], found["n_verified"]) == (3, 9, 3)


def mean_first(passed: list[bool]) -> Fraction:
    """The place of the first success, over all orders."""
    orders = list(permutations(passed))
    return Fraction(sum(order.index(True) + 1 for order in orders), len(orders))


@pytest.mark.parametrize("n_right", range(1, 6))
def test_the_expected_first_success_is_the_mean_over_all_orders(n_right: int):
    passed = [True] * n_right + [False] * (5 - n_right)
    found = count([attempt("a", i, ok) for i, ok in enumerate(passed)])["t"][ALL]
    assert found["first_success_expected"] == round(float(mean_first(passed)), 4)


def test_attempts_that_ended_on_success_have_no_expected_place():
    rows = [attempt("a", 0, False), attempt("a", 1, True)]
    found = count(rows, stopped={"t"})["t"][ALL]
    assert found["first_success_expected"] is None and found["first_success"] == 2.0


def test_perplexity_of_all_tokens_and_of_traces():
    """A trace of 30 tokens at perplexity 2, one of 10 at 32: 2^((30 + 50) / 40) = 4 together, 17 on average."""
    rows = [
        attempt("a", 0, True, n_tokens=30, nll=30 * math.log(2)),
        attempt("a", 1, False, n_tokens=10, nll=10 * math.log(32)),
        attempt("a", 2, False, n_tokens=5000),
    ]
    found = count(rows)["t"][ALL]
    assert (found["perplexity"], found["perplexity_trace_mean"], found["perplexity_verified"]) == (4.0, 17.0, 2.0)
    assert (found["n_scored"], found["n_above_max_perplexity"]) == (2, 1)


def test_cost_of_a_verified_row():
    """4 answers of 100 + 10 tokens at 2 and 5 a million: 0.001 in all, half of it for each of two verified rows."""
    rows = [attempt("a", i, i < 2) for i in range(4)]
    found = count(rows, prices={"t": Price(prompt=2, completion=5)})["t"][ALL]
    assert found["cost"] == pytest.approx(0.001) and found["cost_per_verified"] == pytest.approx(0.0005)
    assert found["tokens_per_verified"] == 20.0
    assert count(rows)["t"][ALL]["cost_per_verified"] is None  # no price
    uncounted = [*rows, attempt("a", 4, False, n_completion_tokens=None)]
    assert count(uncounted, prices={"t": Price(prompt=2, completion=5)})["t"][ALL]["cost"] is None
    none_verified = count([attempt("a", 0, False)], prices={"t": Price(prompt=2, completion=5)})["t"][ALL]
    assert none_verified["cost"] == pytest.approx(0.00025) and none_verified["cost_per_verified"] is None


def test_an_attempt_without_an_answer_lowers_the_rate_and_has_no_length():
    empty = attempt("b", 0, False) | dict.fromkeys(("n_tokens", "looping", "n_prompt_tokens", "n_completion_tokens"))
    found = count([attempt("a", 0, True), empty | {"answered": False, "family": "g"}])["t"]
    assert (found[ALL]["verified_rate"], found[ALL]["n_unanswered"], found[ALL]["tokens_mean"]) == (0.5, 1, 10.0)
    assert found["g"]["tokens_mean"] is None and found["g"]["verified_rate"] == 0
    assert found["f"]["verified_rate_low"] < 1 == found["f"]["verified_rate_high"]


def test_histogram_bins_are_those_of_everyone():
    """The longest has 38 tokens, so bins are 2 wide."""
    rows = [attempt("a", i, True, n_tokens=n) for i, n in enumerate((0, 1, 2, 38))]
    rows += [attempt("a", 0, True, n_tokens=3, teacher="u", family="g")]
    counted = histogram(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    mine = [(row["from"], row["to"], row["n"]) for row in counted if (row["teacher"], row["family"]) == ("t", ALL)]
    assert mine == [(0, 2, 2), (2, 4, 1), (38, 40, 1)]
    assert [row["n"] for row in counted if row["teacher"] == "u"] == [1, 1]
    assert [bin_width(longest) for longest in (0, 19, 20, 39, 40, 99, 100, 32768)] == [1, 1, 2, 2, 5, 5, 10, 2000]


@pytest.mark.published
def test_the_published_order_by_length_flips_between_mathematics_and_all_data():
    """arXiv:2505.14464: 1,890 rows a teacher stand for 1.89 million, 558 of them mathematics at the published mean."""
    math_means = {"am": 3757, "qwen3": 4197, "r1": 3785}
    totals = {
        "am": 2097.1 + 1677.1 + 2077.8 + 322.3 + 112.0,
        "qwen3": 2342.3 + 1691.4 + 1779.9 + 277.3 + 67.4,
        "r1": 2112.6 + 1353.4 + 1331.1 + 286.3 + 69.7,
    }
    rows: list[dict[str, Any]] = []
    for teacher, million in totals.items():
        rest = round((1000 * million - 558 * math_means[teacher]) / 1332)
        for i in range(1890):
            family, n_tokens = ("math", math_means[teacher]) if i < 558 else ("other", rest)
            rows.append(attempt(str(i), 0, True, teacher=teacher, family=family, n_tokens=n_tokens))
    found = count(rows)
    lengths = {family: {t: of[family]["tokens_mean"] for t, of in found.items()} for family in (ALL, "math", "other")}
    assert lengths[ALL] == pytest.approx({"am": 3325, "qwen3": 3257, "r1": 2725}, rel=1e-3)
    assert lengths["math"] == math_means
    orders = compare_orders({family: lengths[family] for family in ("math", "other")}, lengths[ALL])
    assert orders["overall"] == ["r1", "qwen3", "am"] and orders["families"]["math"]["order"] == ["am", "r1", "qwen3"]
    assert orders["families"]["math"]["flipped"] and not orders["families"]["other"]["flipped"]
    assert (orders["agrees"], orders["n_agree"]) == (False, 1)
