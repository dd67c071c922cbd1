"""Oracles: pass rates and variations by hand and in closed form; on random rows a plain loop over Python's lists."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.select._scores import score_prompts
from datagen.select.attempts import SCHEMA
from datagen.select.by_difficulty import Config, by_difficulty


def attempts(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> pl.LazyFrame:
    """Prompt to teacher to scores, in order."""
    flat = [(prompt, teacher, score) for prompt, by in scores.items() for teacher, all in by.items() for score in all]
    rows = [
        {"id": f"{prompt}#{i}", "prompt_id": prompt, "family": "", "teacher": teacher, "has_reference": True,
         "score": score, "position": i}
        for i, (prompt, teacher, score) in enumerate(flat)
    ]  # fmt: skip
    return pl.LazyFrame(rows, schema=SCHEMA)


def ends(rows: pl.LazyFrame, **settings: Any) -> dict[str, str | None]:
    """Id of each attempt that passes to the reason under which it ends."""
    config = Config.model_validate({"method": "by_difficulty", **settings})
    passed = rows.filter(pl.col("score") >= config.threshold).select("id").collect()["id"]
    found = list(by_difficulty(config, rows, stopped=False))
    return {id: why and why[0] for id, why in zip(passed, found, strict=True)}


HALF = {"easy": {"x": [1, 1, 1, 1]}, "hard": {"x": [0, 0, 0, 1]}, "half": {"x": [0, 1, 0, 1]}, "one": {"x": [1]}}


def test_the_band_of_pass_rates():
    """Rates of 1, 1/4, 1/2; one attempt is too few."""
    assert ends(attempts(HALF), min_pass_rate=0.3, max_pass_rate=0.9) == {
        "easy#0": "too_easy", "easy#1": "too_easy", "easy#2": "too_easy", "easy#3": "too_easy", "hard#7": "too_hard",
        "half#9": None, "half#11": "not_among_first", "one#12": "few_attempts",
    }  # fmt: skip


def test_bounds_are_inclusive():
    kept = {id for id, why in ends(attempts(HALF), min_pass_rate=0.25, max_pass_rate=0.5).items() if why is None}
    assert kept == {"hard#7", "half#9"}


def test_variation_of_zeros_and_ones_is_in_closed_form():
    """sqrt((1 - p) / p): sqrt 3 at 1/4, 1 at 1/2, 0 at 1; nobody passes: the mean is 0, and there is none."""
    rows = attempts(HALF | {"never": {"x": [0, 0]}})
    cv = dict(score_prompts(rows, 1.0).select("prompt_id", "cv").collect().iter_rows())
    assert cv["hard"] == pytest.approx(math.sqrt(3)) and cv["half"] == pytest.approx(1) and cv["easy"] == 0
    assert cv["never"] is None
    assert ends(rows, min_pass_rate=0.2, min_cv=1.2)["half#9"] == "little_variation"


def test_the_highest_score_is_taken_then_the_earliest():
    rows = attempts({"p": {"x": [0.8, 0.2, 0.9, 0.9, 0.1]}})
    assert ends(rows, threshold=0.5) == {"p#0": "not_among_first", "p#2": None, "p#3": "not_among_first"}
    assert ends(rows, threshold=0.5, max_per_prompt=2)["p#3"] is None


def test_prompts_that_vary_most_come_first_then_by_id():
    """Variation sqrt 3 for b, 1 for a and c."""
    rows = attempts({"c": {"x": [0, 1]}, "a": {"x": [1, 0]}, "b": {"x": [0, 0, 1, 0]}})
    kept = [id for id, why in ends(rows, max_prompts=2).items() if why is None]
    assert kept == ["a#2", "b#6"]
    assert ends(rows, max_prompts=2)["c#1"] == "not_most_varied"


def test_small_models_grade_and_another_answers():
    """DeepDistill's way; the large model alone would find both prompts easy."""
    rows = attempts({"p": {"small": [0, 1], "large": [1, 1]}, "q": {"small": [0, 0], "large": [1, 1]}})
    found = ends(rows, measured_by=["small"], answers_of=["large"])
    assert found == {
        "p#1": "other_teacher",
        "p#2": None,
        "p#3": "not_among_first",
        "q#6": "too_hard",
        "q#7": "too_hard",
    }
    assert set(ends(rows, measured_by=["large"]).values()) == {"too_easy"}
    with pytest.raises(ParamsError, match="answers_of: no teacher huge; there are large, small"):
        ends(rows, answers_of=["huge"])


def test_a_prompt_that_no_grader_tried_says_too_little():
    rows = attempts({"p": {"small": [0, 1]}, "q": {"large": [1, 0]}})
    assert ends(rows, measured_by=["small"]) == {"p#1": None, "q#2": "few_attempts"}


def test_scores_by_teacher():
    (row,) = score_prompts(attempts({"p": {"y": [1, 0], "x": [0.5]}}), 0.5).collect().to_dicts()
    assert row["teachers"] == [
        {"teacher": "x", "n_attempts": 1, "n_passes": 1, "pass_rate": 1.0, "mean_score": 0.5},
        {"teacher": "y", "n_attempts": 2, "n_passes": 1, "pass_rate": 0.5, "mean_score": 0.5},
    ]
    assert (row["n_attempts"], row["n_passes"], row["mean_score"]) == (3, 2, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_random_scores_as_a_plain_loop_says(seed: int):
    draw = random.Random(seed)
    scores = {f"p{i}": {"x": [draw.choice([0, 0.25, 0.5, 1]) for _ in range(draw.randint(1, 9))]} for i in range(200)}
    threshold, low, high, least = 0.5, 0.2, 0.7, 0.4
    expected: set[str] = set()
    number, by_prompt = 0, defaultdict[str, list[tuple[float, int]]](list)
    for prompt, by in scores.items():
        for score in by["x"]:
            by_prompt[prompt].append((score, number))
            number += 1
    for prompt, all in by_prompt.items():
        values = [score for score, _ in all]
        rate = sum(score >= threshold for score in values) / len(values)
        mean = statistics.fmean(values)
        if len(values) >= 2 and low <= rate <= high and mean and statistics.pstdev(values) / mean >= least:
            best = sorted((one for one in all if one[0] >= threshold), key=lambda one: (-one[0], one[1]))[:2]
            expected |= {f"{prompt}#{position}" for _, position in best}
    settings = {"threshold": threshold, "min_pass_rate": low, "max_pass_rate": high, "min_cv": least}
    found = ends(attempts(scores), **settings, max_per_prompt=2)
    assert {id for id, why in found.items() if why is None} == expected and expected


def test_no_rate_where_attempts_end_on_success():
    with pytest.raises(ParamsError, match="until_verified stops at the first"):
        list(by_difficulty(Config.model_validate({"method": "by_difficulty"}), attempts(HALF), stopped=True))


def test_a_band_that_is_none_is_refused():
    with pytest.raises(ParamsError, match=r"max_pass_rate: .*must not be below min_pass_rate=0.9"):
        validate({"method": "by_difficulty", "min_pass_rate": 0.9}, Config)
