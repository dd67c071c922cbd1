"""The figures of each teacher, by family and over all of them, from one row an attempt.

Attempts to first success come in three readings, since a prompt that was never solved is censored: its first success
lies beyond the attempts that were made. `first_success` is the mean over solved prompts, so too low for a teacher who
leaves the hard ones unsolved; `first_success_at_least` counts an unsolved prompt as all its attempts, a lower bound of
the mean over all prompts; `first_success_expected` is the mean over solved prompts and over every order of their
attempts: of n attempts with c right ones, in random order, the first right one stands at (n + 1) / (c + 1) on average
(negative hypergeometric). That needs attempts whose number does not depend on what came of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from pydantic import Field

from datagen.contracts.params import Params
from datagen.report.figures import ALL, rates

MAX_BINS = 20
ORDERED = (  # the figures by which teachers are put into order
    "verified_rate",
    "first_success_at_least",
    "tokens_mean",
    "perplexity",
    "perplexity_trace_mean",
    "repeated_share",
    "tokens_per_verified",
    "cost_per_verified",
)
SCHEMA: dict[str, Any] = {
    "teacher": pl.String,
    "family": pl.String,
    "prompt_id": pl.String,
    "sample_index": pl.Int64,
    "answered": pl.Boolean,
    "verified": pl.Boolean,
    "n_tokens": pl.Int64,
    "nll": pl.Float64,
    "looping": pl.Boolean,
    "repeated_share": pl.Float64,
    "n_prompt_tokens": pl.Int64,
    "n_completion_tokens": pl.Int64,
}

Row = dict[str, Any]


class Price(Params):
    """Of a million tokens of prompt and of answer, in any one currency."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


def by_teacher(
    attempts: pl.DataFrame, prices: Mapping[str, Price], *, max_perplexity: float, stopped: Iterable[str] = ()
) -> dict[str, dict[str, Row]]:
    """Teacher to family, and ALL, to figures; None stands for a figure that there is none of.

    Args:
        attempts: columns of SCHEMA, one row an attempt; without an answer `answered` is False and all after `verified`
            are null.
        prices: of the teachers whose price is known.
        max_perplexity: traces above it are counted, as a filter would drop them.
        stopped: teachers who were asked until an answer held, whose attempts have no `first_success_expected`.
    """
    found: dict[str, dict[str, Row]] = {}
    for teacher in attempts["teacher"].unique(maintain_order=True):
        mine = attempts.filter(pl.col("teacher") == teacher)
        intervals = rates(mine.lazy().with_columns(passed=pl.col("verified")))
        families = {ALL: mine} | {
            family: mine.filter(pl.col("family") == family) for family in sorted(mine["family"].unique())
        }
        found[teacher] = {
            family: {
                **_verified(rows),
                "verified_rate_low": round(intervals[family].low, 4),
                "verified_rate_high": round(intervals[family].high, 4),
                **_first_success(rows, in_random_order=teacher not in set(stopped)),
                **_lengths(rows),
                **_perplexity(rows, max_perplexity),
                **_repetition(rows),
                **_cost(rows, prices.get(teacher)),
            }
            for family, rows in families.items()
        }
    return found


def _verified(rows: pl.DataFrame) -> Row:
    n_verified = int(rows["verified"].sum())
    return {
        "n_prompts": rows["prompt_id"].n_unique(),
        "n_attempts": len(rows),
        "n_unanswered": int((~rows["answered"]).sum()),
        "n_verified": n_verified,
        "verified_rate": round(n_verified / len(rows), 4),
    }


def _first_success(rows: pl.DataFrame, *, in_random_order: bool) -> Row:
    """Of each prompt its attempts in their order; `by_attempt` counts the prompts whose first success is the k-th."""
    prompts = rows.sort("sample_index", maintain_order=True).group_by("prompt_id", maintain_order=True)
    passed: list[list[bool]] = prompts.agg("verified")["verified"].to_list()
    solved = [one for one in passed if any(one)]
    firsts = [one.index(True) + 1 for one in solved]
    censored = [len(one) for one in passed if not any(one)]
    return {
        "n_solved": len(solved),
        "n_unsolved": len(censored),
        "first_success": _mean(firsts),
        "first_success_expected": _mean([(len(one) + 1) / (sum(one) + 1) for one in solved])
        if in_random_order
        else None,
        "first_success_at_least": _mean(firsts + censored),
        "by_attempt": {str(k): firsts.count(k) for k in sorted(set(firsts))},
    }


def _lengths(rows: pl.DataFrame) -> Row:
    answered = rows.filter("answered")
    kept = answered.filter("verified")["n_tokens"]
    tokens = answered["n_tokens"]
    return {
        "tokens_mean": _mean(tokens.to_list()),
        "tokens_mean_verified": _mean(kept.to_list()),
        "tokens_median": _round(_quantile(tokens, 0.5)),
        "tokens_p90": _round(_quantile(tokens, 0.9)),
        "tokens_max": tokens.max(),
    }


def _perplexity(rows: pl.DataFrame, max_perplexity: float) -> Row:
    """`perplexity` is that of all tokens as one text, so that long answers weigh more; the others are of traces."""
    scored = rows.filter(pl.col("nll").is_not_null())
    kept = scored.filter("verified")
    of_traces = [math.exp(nll / n) for nll, n in scored.select("nll", "n_tokens").iter_rows()]
    return {
        "n_scored": len(scored),
        "perplexity": _of_all_tokens(scored),
        "perplexity_verified": _of_all_tokens(kept),
        "perplexity_trace_mean": _mean(of_traces),
        "perplexity_trace_median": _round(_quantile(pl.Series(of_traces, dtype=pl.Float64), 0.5)),
        "n_above_max_perplexity": sum(one > max_perplexity for one in of_traces),
    }


def _of_all_tokens(scored: pl.DataFrame) -> float | None:
    n_tokens = int(scored["n_tokens"].sum())
    return _round(math.exp(math.fsum(scored["nll"]) / n_tokens)) if n_tokens else None


def _repetition(rows: pl.DataFrame) -> Row:
    return {
        "n_looping": int(rows["looping"].sum()),
        "repeated_share": _mean(rows["repeated_share"].drop_nulls().to_list()),
    }


def _cost(rows: pl.DataFrame, price: Price | None) -> Row:
    """Of the answers, by the teacher's own counts; None where an answer has no count or the price is not known."""
    answered, n_verified = rows.filter("answered"), int(rows["verified"].sum())
    counts = answered.select("n_prompt_tokens", "n_completion_tokens")
    known = len(answered) > 0 and not any(counts.null_count().row(0))
    n_prompt, n_completion = (int(counts[name].sum()) for name in counts.columns)
    cost = (n_prompt * price.prompt + n_completion * price.completion) / 1e6 if known and price else None
    return {
        "tokens_per_verified": _round(n_completion / n_verified) if known and n_verified else None,
        "cost": cost,
        "cost_per_verified": cost / n_verified if cost is not None and n_verified else None,
    }


def histogram(attempts: pl.DataFrame) -> list[Row]:
    """Rows of teacher, family (or ALL), `from` and `to` (exclusive) tokens, and `n` answers; bins are everyone's."""
    answered = attempts.filter("answered")
    width = bin_width(int(answered["n_tokens"].max() or 0))  # pyright: ignore[reportArgumentType]  # an int column's
    frames = [answered, answered.with_columns(family=pl.lit(ALL))]
    start = (pl.col("n_tokens") // width * width).alias("from")
    counted = pl.concat(frames).group_by("teacher", "family", start).len(name="n").sort("teacher", "family", "from")
    return [row | {"to": row["from"] + width} for row in counted.iter_rows(named=True)]


def bin_width(longest: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50, ... at which `MAX_BINS` bins hold a length of `longest`."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if longest // (power * factor) < MAX_BINS:
                return power * factor
        power *= 10


def _mean(values: Sequence[float]) -> float | None:
    return _round(math.fsum(values) / len(values)) if values else None


def _quantile(values: pl.Series, q: float) -> float | None:
    return values.quantile(q, "linear")


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
