"""Oracle: the rule applied by hand; verify itself at another threshold is in tests/datagen/stages/test_select.py."""

import polars as pl
import pytest

from datagen.contracts.errors import DataError, ParamsError
from datagen.select.attempts import SCHEMA
from datagen.select.by_threshold import Config, by_threshold

ROWS = [  # prompt, teacher, reference?, score, what best_of_n said
    ("p", "x", True, 1.0, 0.9, True),
    ("p", "y", True, 0.4, 0.2, False),
    ("p", "y", True, 0.8, 0.8, False),
    ("q", "x", True, 1.0, 0.5, True),
    ("r", "x", False, 1.0, None, None),
]


def attempts(rows: list[tuple[str, str, bool, float, float | None, bool | None]] = ROWS) -> pl.LazyFrame:
    found = [
        {"id": f"{prompt}#{i}", "prompt_id": prompt, "family": "", "teacher": teacher, "has_reference": known,
         "score": score, "trace_score": said, "best": best, "position": i}
        for i, (prompt, teacher, known, score, said, best) in enumerate(rows)
    ]  # fmt: skip
    return pl.LazyFrame(found, schema=SCHEMA)


def chosen(rows: pl.LazyFrame, stopped: bool = False, **settings: object) -> list[str | None]:
    config = Config.model_validate({"method": "by_threshold", **settings})
    return [why and why[0] for why in by_threshold(config, rows, stopped=stopped)]


def test_each_attempt_that_passes_has_an_end():
    assert chosen(attempts()) == [None, None, None]
    assert chosen(attempts(), threshold=0.7) == [None, None, None, None]


def test_agreement_counts_over_teachers_where_there_is_a_reference():
    """At 0.7 two attempts at p pass, by two teachers; one at q; r needs none."""
    assert chosen(attempts(), threshold=0.7, min_agreement=2) == [None, None, "no_agreement", None]
    assert chosen(attempts(), threshold=0.7, min_agreement=3) == ["no_agreement"] * 3 + [None]


def test_the_best_alone():
    assert chosen(attempts(ROWS[:4]), threshold=0.7, keep="best") == [None, "not_best", None]
    with pytest.raises(DataError, match="no method chose the best"):
        chosen(attempts(), threshold=0.7, keep="best")


def test_attempts_that_stop_at_success_cannot_agree():
    assert chosen(attempts(), stopped=True) == [None] * 3
    with pytest.raises(ParamsError, match="stops at the first pass"):
        chosen(attempts(), stopped=True, min_agreement=2)
