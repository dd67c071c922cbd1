"""Rows at random, as many as by_difficulty keeps with the same parameters: the baseline that it has to beat.

Source: the random baseline of data selection, as in Xia et al. LESS. 2024. arXiv:2402.04333, section 4. Rows are drawn
from the answers that pass, at most `max_per_prompt` of them at each prompt, whatever the prompt's difficulty.
"""

from collections.abc import Iterator
from typing import Literal

import polars as pl
from pydantic import Field

from datagen.contracts.seeding import derive_seed
from datagen.select._scores import Difficulty, grade, is_taken
from datagen.select.attempts import in_rows


class Config(Difficulty):
    """The parameters of by_difficulty, which say how many rows are drawn, and the `seed` that says which."""

    method: Literal["at_random"]
    seed: int = Field(0, ge=0)


def at_random(config: Config, attempts: pl.LazyFrame, *, stopped: bool) -> Iterator[tuple[str, str] | None]:
    """The rows with the least hashes of seed and id; the others end as not_drawn, not_among_first or other_teacher.

    Raises:
        ParamsError: the attempts ended on success, or a teacher is unknown.
    """
    graded = grade(config, attempts, stopped=stopped).filter(pl.col("score") >= config.threshold)
    n_drawn = graded.select(is_taken(config).sum()).collect().item()
    candidates = graded.filter(pl.col("order") < config.max_per_prompt).select("id", "position").collect()
    hashes = [derive_seed(config.seed, "at_random", id) for id in candidates["id"]]
    drawn = candidates.select("position").with_columns(hash=pl.Series(hashes, dtype=pl.Int64)).sort("hash", "position")
    drawn = drawn.head(n_drawn).select("position", drawn=pl.lit(True)).lazy()
    detail = f"{n_drawn} of {len(candidates)} answers were drawn with seed={config.seed}"
    for row in in_rows(graded.join(drawn, on="position", how="left", maintain_order="left")):
        if row["drawn"]:
            yield None
        elif row["order"] is None:
            yield "other_teacher", f"an answer of {row['teacher']}, answers_of names {', '.join(config.answers_of)}"
        elif row["order"] >= config.max_per_prompt:
            yield (
                "not_among_first",
                f"number {row['order'] + 1} of its prompt's answers, max_per_prompt is {config.max_per_prompt}",
            )
        else:
            yield "not_drawn", detail
