"""Oracle: as many rows as by_difficulty keeps, any of the candidates alike."""

import random
from collections import Counter
from typing import Any

import polars as pl
import pytest

from datagen.select import at_random, by_difficulty
from datagen.select.attempts import SCHEMA

SETTINGS: dict[str, Any] = {"min_pass_rate": 0.4, "max_pass_rate": 0.6}


@pytest.fixture(scope="module")
def attempts() -> pl.LazyFrame:
    """Four attempts at each of 60 prompts, each passes with a chance of its prompt's own."""
    draw = random.Random(0)
    chances = [draw.random() for _ in range(60)]
    rows = [
        {"id": f"p{i}#{j}", "prompt_id": f"p{i}", "family": "", "teacher": "x", "has_reference": True,
         "score": float(draw.random() < chance), "position": 4 * i + j}
        for i, chance in enumerate(chances) for j in range(4)
    ]  # fmt: skip
    return pl.LazyFrame(rows, schema=SCHEMA)


def drawn(attempts: pl.LazyFrame, seed: int) -> set[str]:
    config = at_random.Config.model_validate({"method": "at_random", "seed": seed, **SETTINGS})
    passed = attempts.filter(pl.col("score") >= 1).select("id").collect()["id"]
    found = zip(passed, at_random.at_random(config, attempts, stopped=False), strict=True)
    return {id for id, why in found if why is None}


def test_as_many_as_by_difficulty_one_a_prompt(attempts: pl.LazyFrame):
    config = by_difficulty.Config.model_validate({"method": "by_difficulty", **SETTINGS})
    n = sum(why is None for why in by_difficulty.by_difficulty(config, attempts, stopped=False))
    for seed in range(3):
        ids = drawn(attempts, seed)
        assert len(ids) == n > 5 and len({id.partition("#")[0] for id in ids}) == n


def test_equal_seeds_draw_equal_rows_and_each_is_as_likely(attempts: pl.LazyFrame):
    """Over 60 seeds each of the candidates is drawn about n / candidates of the time: within 5 standard deviations."""
    assert drawn(attempts, 7) == drawn(attempts, 7) != drawn(attempts, 8)
    counts = Counter(id for seed in range(60) for id in drawn(attempts, seed))
    passed = attempts.filter(pl.col("score") >= 1).select("prompt_id").collect()["prompt_id"]
    share = len(drawn(attempts, 0)) / passed.n_unique()
    assert len(counts) == passed.n_unique()
    assert all(abs(n - 60 * share) < 5 * (60 * share * (1 - share)) ** 0.5 for n in counts.values())
