"""Teachers side by side on one page, with nothing loaded from anywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from datagen.report.figures import ALL
from datagen.report.markup import css, percent, section, text
from datagen.report.page import document

FIGURES = {  # name: how a person calls it, how it is written
    "n_prompts": ("prompts", "{:,}"),
    "n_attempts": ("attempts", "{:,}"),
    "verified_rate": ("verified rate", "{:.1%}"),
    "n_unsolved": ("prompts never solved", "{:,}"),
    "first_success": ("attempts to the first success, of the solved", "{:.2f}"),
    "first_success_expected": ("the same in random order", "{:.2f}"),
    "first_success_at_least": ("attempts to the first success of all, at least", "{:.2f}"),
    "tokens_mean": ("tokens, mean", "{:,.1f}"),
    "tokens_median": ("tokens, median", "{:,.1f}"),
    "tokens_p90": ("tokens, 90 % are below", "{:,.1f}"),
    "perplexity": ("perplexity of all tokens", "{:.2f}"),
    "perplexity_trace_mean": ("perplexity of a trace, mean", "{:.2f}"),
    "n_above_max_perplexity": ("traces above the perplexity bound", "{:,}"),
    "n_looping": ("traces that loop", "{:,}"),
    "repeated_share": ("4-grams that stood before", "{:.1%}"),
    "tokens_per_verified": ("tokens per verified row", "{:,.1f}"),
    "cost_per_verified": ("cost per verified row", "{:.3g}"),
}
Counted = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Teacher to family, and ALL, to figures."""


def render(counted: Counted, histogram: Sequence[Mapping[str, Any]], orderings: Mapping[str, Any], scorer: str) -> str:
    """The whole page."""
    first = next(iter(counted.values()))[ALL]
    header = (
        f'<header>\n<p class="brand">datastill</p>\n<h1><span class="to">{len(counted)} teachers</span></h1>\n'
        f'<p class="lead">on the same {first["n_prompts"]:,} prompts, measured by the tokenizer of {text(scorer)} and '
        "scored by that model.</p>\n</header>\n"
    )
    body = (header, _table(counted), _rates(counted), _lengths(counted, histogram), _orders(orderings))
    return document("datastill: teachers compared", "".join(body), "All figures stand in <code>figures.json</code>.")


def _table(counted: Counted) -> str:
    head = "".join(f'<th class="number">{text(teacher)}</th>' for teacher in counted)
    rows = "".join(
        f'<tr><th scope="row">{label}</th>'
        + "".join(f'<td class="number">{_number(of[ALL][name], form)}</td>' for of in counted.values())
        + "</tr>\n"
        for name, (label, form) in FIGURES.items()
    )
    return section(
        "Overall",
        "Over all families. A prompt that was never solved is censored: its first success lies beyond its attempts.",
        f'<div class="scroll"><table class="facts"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>",
    )


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else form.format(value)


def _rates(counted: Counted) -> str:
    families = [ALL, *sorted({family for of in counted.values() for family in of} - {ALL})]
    rows = "".join(
        f'<tr{" class=overall" if family == ALL else ""}><th scope="row">{text(family) or "no family"}</th><td>'
        + "".join(_bar(of[family], _colour(i, len(counted))) for i, of in enumerate(counted.values()) if family in of)
        + "</td></tr>\n"
        for family in families
    )
    legend = "".join(
        f'<span><i style="{_colour(i, len(counted))}"></i>{text(teacher)}</span>' for i, teacher in enumerate(counted)
    )
    return section(
        "Verified rate by family",
        "The share of attempts that pass every check. Lines are 95 % intervals.",
        f'<p class="legend">{legend}</p>\n<table class="rates">\n{rows}</table>',
    )


def _bar(row: Mapping[str, Any], colour: str) -> str:
    low, high = row["verified_rate_low"], row["verified_rate_high"]
    return (
        f'<div class="bar"><span class="track"><i class="fill" style="width:{css(row["verified_rate"])};{colour}"></i>'
        f'<i class="interval" style="left:{css(low)};width:{css(high - low)}"></i></span>'
        f'<span class="number">{percent(row["verified_rate"])}</span></div>'
    )


def _lengths(counted: Counted, histogram: Sequence[Mapping[str, Any]]) -> str:
    """A row of bars for each teacher, all on one scale."""
    overall = [row for row in histogram if row["family"] == ALL]
    if not overall:
        return ""
    width = overall[0]["to"] - overall[0]["from"]
    n_bins = max(row["from"] for row in overall) // width + 1
    highest = max(row["n"] for row in overall)
    rows = "".join(
        f'<tr><th scope="row">{text(teacher)}</th><td><svg viewBox="0 0 {n_bins} 4" preserveAspectRatio="none" '
        f'width="100%" height="64" role="img" aria-label="lengths">'
        + "".join(
            f'<rect x="{row["from"] // width + 0.05:.2f}" width="0.9" y="{4 - 4 * row["n"] / highest:.3f}" '
            f'height="{4 * row["n"] / highest:.3f}" style="{_colour(i, len(counted), "fill")}"/>'
            for row in overall
            if row["teacher"] == teacher
        )
        + "</svg></td></tr>\n"
        for i, teacher in enumerate(counted)
    )
    intro = f"Answers by their number of tokens: {n_bins} bars of {width} tokens each, from 0 to {n_bins * width}."
    return section("Lengths", intro, f'<table class="rates">\n{rows}</table>')


def _orders(orderings: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{text(FIGURES[name][0])}</th><td>{text(", ".join(order["overall"])) or "none"}</td>'
        f"<td>{text(', '.join(order['family_mean'])) or 'none'}</td>"
        f'<td class="number">{_share(order["n_agree"], order["n_families"])}</td></tr>\n'
        for name, order in orderings.items()
    )
    return section(
        "Do the families agree?",
        "Teachers from the lowest figure to the highest: over all answers, by the mean of the families' figures, and "
        "how many families put no pair of teachers the other way round.",
        '<div class="scroll"><table class="facts"><thead><tr><th></th><th>overall</th><th>by families</th>'
        f'<th class="number">families that agree</th></tr></thead><tbody>{rows}</tbody></table></div>',
    )


def _share(n: int, of: int) -> str:
    return f"{n} of {of}" if of else "none"


def _colour(i: int, n: int, attribute: str = "background") -> str:
    return f"{attribute}:hsl({175 + 360 * i / n:.0f} 45% 48%)"
