"""How the answers are spread: lengths in tokens, scores, and how many attempts of a prompt passed; by teacher, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datagen.report.figures import ALL, rates
from datagen.report.markup import percent, section, text, wide

N_BINS = 24
MAX_TEACHERS = 24
LENGTHS = {"n_prompt_tokens": "tokens of a prompt", "n_completion_tokens": "tokens of an answer"}
_COLUMNS = ("id", "prompt_id", "teacher", *LENGTHS)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows from `low` up to, in the last bin including, `high`."""

    low: float
    high: float
    n_kept: int
    n_dropped: int


def spread_sections(verified: Path) -> str:
    """Distributions, and the teachers side by side where there are several, as HTML; empty where nothing was judged."""
    answers = _judged(verified)
    scores = verified / "verdicts.parquet"
    drawn = [_drawn(said, bins(answers, name)) for name, said in LENGTHS.items()]
    if scores.is_file():
        scored = pl.scan_parquet(scores).select("id", "score").join(answers.select("id", "passed"), on="id")
        found = bins(scored, "score")
        if sum(1 for one in found if one.n_kept + one.n_dropped) > 2:  # more than right or wrong
            drawn.append(_drawn("score of an answer", found))
    drawn.append(_drawn("attempts that passed, of a prompt", passes(answers), "prompts"))
    drawn = [figure for figure in drawn if figure]
    if not drawn:
        return ""
    legend = '<p class="legend"><span><i class="kept"></i>kept</span><span><i class="dropped"></i>dropped</span></p>'
    body = f'{legend}<div class="spreads">{"".join(drawn)}</div>'
    said = "Every answer that was judged, by the tokens that the teacher counted."
    return section("How the answers are spread", said, body, id="spread") + _teachers(answers)


def bins(rows: pl.LazyFrame, column: str) -> list[Bin]:
    """Equal bins from the least to the greatest value, `N_BINS` of them or, of integers, fewer; none without values.

    Args:
        rows: `column`, a number, nulls left out; `passed`, bool.
        column: its name.
    """
    value = pl.col(column).cast(pl.Float64)
    rows = rows.filter(value.is_finite()).select(value.alias("value"), "passed")
    low, high = rows.select(low=pl.col("value").min(), high=pl.col("value").max()).collect(engine="streaming").row(0)
    if low is None:
        return []
    is_whole = column.startswith("n_")
    n = min(N_BINS, int(high - low) + 1) if is_whole else N_BINS if high > low else 1
    end = high + 1 if is_whole else high  # of whole numbers a bin holds those from its low end up to the next's
    width = (end - low) / n or 1.0
    place = ((pl.col("value") - low) / width).floor().clip(0, n - 1).cast(pl.Int64)
    counts = rows.group_by(place.alias("place"), "passed").len().collect(engine="streaming")
    found: dict[tuple[int, bool], int] = {(place, passed): count for place, passed, count in counts.iter_rows()}
    return [
        Bin(
            low=low + i * width, high=low + (i + 1) * width,
            n_kept=found.get((i, True), 0), n_dropped=found.get((i, False), 0),
        )
        for i in range(n)
    ]  # fmt: skip


def passes(answers: pl.LazyFrame) -> list[Bin]:
    """Prompts by the number of their attempts that passed, 0 counted as dropped; none where no prompt had two."""
    of_prompt = answers.group_by("prompt_id").agg(n=pl.len(), passed=pl.col("passed").sum())
    counts = of_prompt.group_by("passed").agg(count=pl.len(), most=pl.col("n").max()).collect(engine="streaming")
    most: int = max(counts["most"], default=0)
    if most < 2:
        return []
    found: dict[int, int] = dict(counts.select("passed", "count").iter_rows())
    return [
        Bin(low=i, high=i + 1, n_kept=found.get(i, 0) if i else 0, n_dropped=0 if i else found.get(0, 0))
        for i in range(most + 1)
    ]


def by_teacher(answers: pl.LazyFrame) -> list[dict[str, Any]]:
    """Each teacher, most answers first: `teacher`, `n`, `rate` (figures.Rate), `median`, `per_verified` (tokens).

    `median` is that of the answers whose tokens were counted. `per_verified` is None where no answer was verified, or
    the tokens of some answer were not counted.
    """
    found = rates(answers.select("prompt_id", "passed", family=pl.col("teacher")))
    tokens = pl.col("n_completion_tokens")
    total = pl.when(tokens.null_count() == 0).then(tokens.cast(pl.Int64).sum())
    lengths = answers.group_by("teacher").agg(median=tokens.median(), total=total)
    rows = {row["teacher"]: row for row in lengths.collect(engine="streaming").to_dicts()}
    ranked = sorted((name for name in found if name != ALL), key=lambda name: (-found[name].n, name))
    return [
        {
            "teacher": name,
            "n": found[name].n,
            "rate": found[name],
            "median": rows[name]["median"],
            "per_verified": _per(rows[name]["total"], found[name].n_passed),
        }
        for name in ranked[:MAX_TEACHERS]
    ]


def _per(total: int | None, n: int) -> float | None:
    return None if total is None or not n else total / n


def _judged(verified: Path) -> pl.LazyFrame:
    tables = {"part-*.parquet": True, "rejected.parquet": False}
    return pl.concat(
        pl.scan_parquet(verified / table).select(*_COLUMNS, passed=pl.lit(passed)) for table, passed in tables.items()
    )


def _teachers(answers: pl.LazyFrame) -> str:
    found = by_teacher(answers)
    if len(found) < 2:
        return ""
    head = "".join(
        f'<th class="number">{one}</th>'
        for one in ("answers", "verified", "95 % interval", "tokens, median", "tokens per verified answer")
    )
    rows = "".join(_teacher(row) for row in found)
    table = f'<table class="facts"><thead><tr><th>teacher</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    said = "Who answered, and how much of it passed. Attempts at one prompt count together in the interval."
    return section("Teachers side by side", said, wide(table, "teachers"), id="teachers")


def _teacher(row: Mapping[str, Any]) -> str:
    rate = row["rate"]
    tokens = ("none" if row[name] is None else f"{row[name]:,.1f}" for name in ("median", "per_verified"))
    cells = (f"{row['n']:,}", percent(rate.value), f"{percent(rate.low)} to {percent(rate.high)}", *tokens)
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{text(row["teacher"] or "not named")}</th>{numbers}</tr>\n'


def _drawn(said: str, found: list[Bin], unit: str = "answers") -> str:
    """Stacked columns, kept below and dropped above."""
    highest = max((one.n_kept + one.n_dropped for one in found), default=0)
    if len(found) < 2 or not highest:
        return ""
    wide_ = 100 / len(found)
    columns = "".join(_column(i * wide_, 0.88 * wide_, one, 100 / highest, unit) for i, one in enumerate(found))
    ends = f"<span>{found[0].low:g}</span><span>{found[-1].high if found[-1].high % 1 else found[-1].high - 1:g}</span>"
    total = sum(one.n_kept + one.n_dropped for one in found)
    fullest = max(found, key=lambda one: one.n_kept + one.n_dropped)
    alt = f"{said}: {total:,} {unit}, most of them, {highest:,}, from {fullest.low:g} to {fullest.high:g}"
    return (
        f'<figure class="spread"><figcaption>{said}</figcaption><svg viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'role="img" aria-label="{alt}">{columns}</svg><div class="x">{ends}</div></figure>'
    )


def _column(x: float, width: float, one: Bin, scale: float, unit: str) -> str:
    kept, dropped = one.n_kept * scale, one.n_dropped * scale
    title = f"<title>{one.low:g} to {one.high:g}: {one.n_kept:,} {unit} kept, {one.n_dropped:,} dropped</title>"
    bars = ((100 - kept, kept, "kept"), (100 - kept - dropped, dropped, "dropped"))
    return f"<g>{title}" + "".join(
        f'<rect class="{look}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
        for y, height, look in bars
        if height
    ) + "</g>"  # fmt: skip
