"""The decision of verify anew: another threshold, another agreement, the best alone; nobody is asked again.

Rejection sampling by a verifier's score: Tian et al. Not All Correct Answers Are Equal. 2025. arXiv:2505.14464,
section 2, which keeps what scores at least 0.9. The rule is verify's own (`datagen.verify.decision`), so verify at one
threshold and this at another give the rows of verify at the other. Where datasets of several teachers are given, the
attempts of all of them at a prompt count towards `min_agreement`.
"""

from collections.abc import Iterator
from typing import Literal

import polars as pl

from datagen.contracts.errors import ParamsError
from datagen.select.attempts import in_rows
from datagen.verify.decision import Rule, why_set_aside


class Config(Rule):
    """`threshold`, `keep` and `min_agreement`, as verify has them."""

    method: Literal["by_threshold"]


def by_threshold(config: Config, attempts: pl.LazyFrame, *, stopped: bool) -> Iterator[tuple[str, str] | None]:
    """Every attempt that passes, but for those that are not the best (`not_best`) or stand alone (`no_agreement`).

    Raises:
        ParamsError: attempts must agree, and they ended on the first success.
        DataError: the best are to be kept, and no method chose them.
    """
    if stopped and config.min_agreement > 1:
        raise ParamsError(
            "min_agreement: until_verified stops at the first pass, so no two attempts can agree; sample a fixed "
            f"number with n_samples (got {config.min_agreement})"
        )
    passed = attempts.filter(pl.col("score") >= config.threshold)
    agreeing = passed.group_by("prompt_id").agg(n_passed=pl.len())
    for row in in_rows(passed.join(agreeing, on="prompt_id", how="left", maintain_order="left")):
        yield why_set_aside(
            config, row["id"], has_reference=row["has_reference"], n_passed=row["n_passed"],
            score=row["trace_score"], best=row["best"],
        )  # fmt: skip
