"""Scores by prompt, and where each attempt stands among those at its prompt: lazy queries over the attempts."""

import polars as pl
from pydantic import Field, ValidationInfo, field_validator

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params


class Difficulty(Params):
    """Which prompts are neither too easy nor too hard, and which of their answers are taken.

    The paper's own bounds are for its teachers and its questions, so those here are defaults of ours: the middle half
    of the pass rates.

    Attributes:
        threshold: the least score of an attempt that passes (0.9 in arXiv:2505.14464, section 2).
        min_pass_rate: of a prompt's attempts, inclusive.
        max_pass_rate: likewise.
        min_cv: the least coefficient of variation of a prompt's scores. Where scores are 0 or 1, of pass rate p, it is
            sqrt((1 - p) / p), so it says what the pass rate says; scores between them say more.
        min_attempts: a prompt with fewer says too little.
        measured_by: teachers whose attempts make pass rate and variation; empty for all. DeepDistill grades by models
            of three sizes.
        answers_of: teachers whose answers are taken; empty for all.
        max_per_prompt: of the answers that pass those with the highest score, then the earliest.
        max_prompts: of the prompts those with the largest variation, then by id; 0 for all.
    """

    threshold: float = Field(1.0, ge=0, le=1)
    min_pass_rate: float = Field(0.25, ge=0, le=1)
    max_pass_rate: float = Field(0.75, ge=0, le=1, validate_default=True)
    min_cv: float = Field(0.0, ge=0)
    min_attempts: int = Field(2, ge=1)
    measured_by: tuple[str, ...] = ()
    answers_of: tuple[str, ...] = ()
    max_per_prompt: int = Field(1, ge=1)
    max_prompts: int = Field(0, ge=0)

    @field_validator("max_pass_rate")
    @classmethod
    def _check_band(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("min_pass_rate", 0.0):
            raise ValueError(f"must not be below min_pass_rate={info.data['min_pass_rate']:g}")
        return value


def score_prompts(attempts: pl.LazyFrame, threshold: float) -> pl.LazyFrame:
    """What the attempts at each prompt say together, prompts in the order of their first attempt.

    Scores are sorted before they are summed, so the last digit does not depend on who adds first.

    Returns:
        prompt_id, family, n_attempts, n_passes, pass_rate = n_passes / n_attempts, mean_score, std_score (of the scores
        as a population), cv = std_score / mean_score (null where the mean is 0), and `teachers`: for each, by name,
        n_attempts, n_passes, pass_rate and mean_score.
    """
    by_teacher = _scored(attempts, threshold, "prompt_id", "teacher").select(
        "prompt_id", "first", "family", "scores",
        one=pl.struct("teacher", "n_attempts", "n_passes", "pass_rate", "mean_score"),
    )  # fmt: skip
    teachers = by_teacher.group_by("prompt_id").agg(teachers=pl.col("one").sort_by(pl.col("one").struct["teacher"]))
    scores = pl.col("scores").list
    prompts = _scored(attempts, threshold, "prompt_id").with_columns(std_score=scores.std(ddof=0))
    cv = pl.when(pl.col("mean_score") > 0).then(pl.col("std_score") / pl.col("mean_score"))
    columns = ("prompt_id", "family", "n_attempts", "n_passes", "pass_rate", "mean_score", "std_score", "cv")
    prompts = prompts.with_columns(cv=cv).join(teachers, on="prompt_id", how="left")
    return prompts.sort("first").select(*columns, "teachers")


def _scored(attempts: pl.LazyFrame, threshold: float, *keys: str) -> pl.LazyFrame:
    grouped = attempts.group_by(keys).agg(
        first=pl.col("position").min(),
        family=pl.col("family").first(),
        n_attempts=pl.len().cast(pl.Int32),
        n_passes=(pl.col("score") >= threshold).sum().cast(pl.Int32),
        scores=pl.col("score").sort(),
    )
    return grouped.with_columns(
        pass_rate=pl.col("n_passes") / pl.col("n_attempts"), mean_score=pl.col("scores").list.mean()
    )


def grade(config: Difficulty, attempts: pl.LazyFrame, *, stopped: bool) -> pl.LazyFrame:
    """The attempts in their order, each with the figures of its prompt and its place among those that may be taken.

    Returns:
        The columns of `attempts`, and n_attempts, pass_rate and cv of its prompt (null where none of `measured_by`
        tried it); `in_band`; `order`, its place from 0 among its prompt's answers that pass, null where it is none of
        them; `place`, its prompt's from 0 among those in the band that have such an answer, else null.

    Raises:
        ParamsError: `stopped`, since attempts that end on success have no pass rate; or a teacher is unknown.
    """
    if stopped:
        raise ParamsError(
            "method: difficulty is a rate of passes, and until_verified stops at the first; sample a fixed number of "
            "attempts with n_samples"
        )
    _check_teachers(config, attempts)
    measured = attempts.filter(pl.col("teacher").is_in(config.measured_by)) if config.measured_by else attempts
    cv, rate = pl.col("cv"), pl.col("pass_rate")
    prompts = score_prompts(measured, config.threshold).select(
        "prompt_id", "n_attempts", "pass_rate", "cv",
        in_band=rate.is_between(config.min_pass_rate, config.max_pass_rate)
        & (cv.fill_null(0) >= config.min_cv) & (pl.col("n_attempts") >= config.min_attempts),
    )  # fmt: skip
    taken = attempts.filter(pl.col("score") >= config.threshold)
    if config.answers_of:
        taken = taken.filter(pl.col("teacher").is_in(config.answers_of))
    taken = taken.sort("score", "position", descending=[True, False]).select(
        "position", "prompt_id", order=pl.int_range(pl.len()).over("prompt_id")
    )
    ranked = prompts.filter("in_band").join(taken, on="prompt_id", how="semi")
    ranked = ranked.sort("cv", "prompt_id", descending=[True, False], nulls_last=True).with_row_index("place")
    return (
        attempts.join(prompts, on="prompt_id", how="left", maintain_order="left")
        .join(ranked.select("prompt_id", "place"), on="prompt_id", how="left", maintain_order="left")
        .join(taken.select("position", "order"), on="position", how="left", maintain_order="left")
    )


def is_taken(config: Difficulty) -> pl.Expr:
    """Whether a graded attempt is taken: its prompt is in the band and among the first, itself among its prompt's."""
    taken = pl.col("place").is_not_null() & (pl.col("order") < config.max_per_prompt)
    return (taken & (pl.col("place") < config.max_prompts)) if config.max_prompts else taken


def _check_teachers(config: Difficulty, attempts: pl.LazyFrame) -> None:
    asked = {*config.measured_by, *config.answers_of}
    if not asked:
        return
    known = sorted(attempts.select(pl.col("teacher").unique()).collect()["teacher"])
    for key in ("measured_by", "answers_of"):
        if unknown := sorted(set(getattr(config, key)) - set(known)):
            raise ParamsError(f"{key}: no teacher {', '.join(unknown)}; there are {', '.join(known)}")
