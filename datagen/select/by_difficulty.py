"""Answers to prompts of middle difficulty: some attempts pass, others do not, and their scores vary.

Tian et al. DeepDistill: Enhancing LLM Reasoning Capabilities via Large-Scale Difficulty-Graded Data Training. 2025.
arXiv:2504.17565. It grades a question by the pass rate of several models' attempts and by the coefficient of variation
of their scores, standard deviation over mean, and trains on questions that vary. Departures: the bounds are parameters
with defaults of our own, the standard deviation is the population's, and an attempt that verify never saw, such as an
empty answer, is no attempt.
"""

from collections.abc import Iterator
from typing import Any, Literal

import polars as pl

from datagen.select._scores import Difficulty, grade, is_taken
from datagen.select.attempts import in_rows


class Config(Difficulty):
    """The bounds, see `Difficulty`."""

    method: Literal["by_difficulty"]


def by_difficulty(config: Config, attempts: pl.LazyFrame, *, stopped: bool) -> Iterator[tuple[str, str] | None]:
    """The answers that pass, of prompts in the band.

    The others end as other_teacher, few_attempts, too_hard, too_easy, little_variation, not_most_varied (more than
    max_prompts are in the band) or not_among_first (other answers to the prompt were taken).

    Raises:
        ParamsError: the attempts ended on success, or a teacher is unknown.
    """
    graded = grade(config, attempts, stopped=stopped).filter(pl.col("score") >= config.threshold)
    for row in in_rows(graded.with_columns(taken=is_taken(config))):
        yield None if row["taken"] else _why_not(config, row)


def _why_not(config: Config, row: dict[str, Any]) -> tuple[str, str]:
    if row["order"] is None:
        return "other_teacher", f"an answer of {row['teacher']}, answers_of names {', '.join(config.answers_of)}"
    n, rate, cv = row["n_attempts"] or 0, row["pass_rate"], row["cv"]
    if n < config.min_attempts:
        return "few_attempts", f"{n} attempts at its prompt, min_attempts is {config.min_attempts}"
    said = f"pass rate {rate:g} of {n} attempts at its prompt"
    if rate < config.min_pass_rate:
        return "too_hard", f"{said}, min_pass_rate is {config.min_pass_rate:g}"
    if rate > config.max_pass_rate:
        return "too_easy", f"{said}, max_pass_rate is {config.max_pass_rate:g}"
    if row["place"] is None:
        return "little_variation", f"coefficient of variation {cv or 0:.4g} of scores, min_cv is {config.min_cv:g}"
    if config.max_prompts and (place := row["place"]) >= config.max_prompts:
        return "not_most_varied", f"its prompt is number {place + 1} in the band, max_prompts is {config.max_prompts}"
    number = row["order"] + 1
    return "not_among_first", f"number {number} of its prompt's answers, max_per_prompt is {config.max_per_prompt}"
