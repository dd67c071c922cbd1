"""The report's charts: rows, bars and one curve in HTML and SVG, that scale with the page and follow its colours."""

import math
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from datagen.report.figures import ALL, MAX_FAMILIES, Rate, Step
from datagen.report.markup import css, percent, section, text

MAX_REASONS = 12
N_COLOURS = 8  # of lines, in style.css
MAX_LOSSES = 400  # points of the curve; more are averaged in equal pieces
WHO = {"teacher": "teacher, sampled", "before": "student before training", "after": "student after training"}
STEPS = {  # of the funnel: title, and what went on
    "prompts": ("Prompts", "prompts"),
    "traces": ("Sampled", "answers"),
    "verified": ("Verified", "kept"),
    "student": ("Trained on", "rows"),
}
BETWEEN = {"select": "Selected", "filter": "Filtered"}  # stage to title, of other steps


def funnel(steps: Mapping[str, Step]) -> str:
    """What went on and what was dropped at each step, as wide as the answers are many."""
    n_answers = max(1, steps["traces"].n_in)
    rows = "".join(
        _step(
            *STEPS.get(name, (BETWEEN.get(step.stage, text(name)), "kept")),
            step,
            1.0 if name == "prompts" else step.n_in / n_answers,
        )
        for name, step in steps.items()
    )
    return section(
        "From prompts to the training set",
        "Every row that came in went on or was dropped for one reason. Nothing is lost on the way.",
        rows,
        id="funnel",
    )


def _step(title: str, unit: str, step: Step, width: float) -> str:
    n_dropped = sum(step.reasons.values())
    parts = (("kept", step.n_out), ("dropped", n_dropped))
    split = "".join(f'<i class="{name}" style="flex:{n}"></i>' for name, n in parts if n)
    dropped = f'<span class="dropped-text">{n_dropped:,} dropped</span>' if n_dropped else "none dropped"
    return (
        f'<div class="step"><div><h3>{title}</h3><p class="note">{text(step.note)}</p></div><div>'
        f'<div class="split" style="width:{css(width)}">{split}</div>'
        f'<p class="counts"><span class="kept-text">{step.n_out:,} {unit}</span><span>{dropped}</span></p>'
        f"{_reasons(step.reasons, n_dropped)}</div></div>\n"
    )


def _reasons(reasons: Mapping[str, int], total: int) -> str:
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = [
        (f'<a href="rows.html#why={quote(reason)}"><code>{text(reason)}</code></a>', n)
        for reason, n in ranked[:MAX_REASONS]
    ]
    if rest := ranked[MAX_REASONS:]:
        shown.append((f"{len(rest)} more reasons", sum(n for _, n in rest)))
    rows = "".join(
        f'<tr><td>{name}</td><td><div class="meter" style="width:{css(n / max(n for _, n in shown))}"></div></td>'
        f'<td class="number">{n:,}</td><td class="number">{percent(n / total)}</td></tr>'
        for name, n in shown
    )
    return f'<table class="reasons">{rows}</table>' if rows else ""


def rate_bars(rates: Mapping[str, Mapping[str, Rate]]) -> str:
    """Bars with intervals, families by what was reached last; nothing where no answer was judged."""
    who = [name for name in WHO if rates.get(name)]
    if not who:
        return ""
    first, last = rates[who[0]], rates[who[-1]]
    families = sorted({family for name in who for family in rates[name]} - {ALL})
    largest = sorted(families, key=lambda family: -first[family].n if family in first else 0)[:MAX_FAMILIES]
    shown = sorted(largest, key=lambda family: -last[family].value if family in last else 1.0)
    rest = f" The {len(shown)} largest of {len(families)} families." if len(shown) < len(families) else ""
    legend = "".join(f'<span><i class="{name}"></i>{WHO[name]}</span>' for name in who)
    rows = "".join(
        f'<tr{" class=overall" if family == ALL else ""}><th scope="row">{text(family) or "no family"}</th><td>'
        + "".join(_bar(name, rates[name].get(family)) for name in who)
        + "</td></tr>\n"
        for family in [ALL, *shown]
    )
    return section(
        "Verified rate by family",
        "The share of answers that pass every check. The student is asked about prompts that it never saw. "
        f"Lines are 95 % intervals.{rest}",
        f'<p class="legend">{legend}</p>\n<table class="rates">\n{rows}</table>',
        id="rates",
    )


def _bar(who: str, rate: Rate | None) -> str:
    if rate is None:
        return '<div class="bar"><span class="track"></span><span class="number">none</span></div>'
    title = (
        f"{WHO[who]}: {rate.n_passed:,} of {rate.n:,} answers, "
        f"95 % interval {percent(rate.low)} to {percent(rate.high)}"
    )
    return (
        f'<div class="bar" title="{title}"><span class="track">'
        f'<i class="fill {who}" style="width:{css(rate.value)}"></i>'
        f'<i class="interval" style="left:{css(rate.low)};width:{css(rate.high - rate.low)}"></i></span>'
        f'<span class="number">{percent(rate.value)}</span></div>'
    )


def loss_curve(losses: Sequence[tuple[float, float]]) -> str:
    """Loss by step, from 0; nothing where there are fewer than two steps."""
    if len(losses) < 2:
        return ""
    return section(
        "Training loss",
        f"Nats a token of the answers, {losses[0][1]:.3f} at the first step and {losses[-1][1]:.3f} at the last.",
        line_chart(losses, "step"),
        id="loss",
    )


def line_chart(points: Sequence[tuple[float, float]], unit: str) -> str:
    """A line through at least two points, in the order of x, with y from 0; `unit` says what x counts."""
    points = _thinned(points)
    (first, _), (last, _) = points[0], points[-1]
    ticks = _ticks(max(y for _, y in points))
    line = f'<polyline points="{_line(points, first, last, ticks[-1])}"/>'
    return _axes(line, ticks, first, last, unit, f"loss by {unit}")


def lines_chart(series: Mapping[str, Sequence[tuple[float, float]]], unit: str, said: str) -> str:
    """A line for each name, `said` of all, over one scale of x and one of y from 0, and a legend.

    Args:
        series: points in the order of x, at least two each; `N_COLOURS` lines have a colour of their own.
        unit: what x counts.
        said: for those who cannot see the lines.
    """
    thinned = {name: _thinned(points) for name, points in series.items()}
    first = min(points[0][0] for points in thinned.values())
    last = max(points[-1][0] for points in thinned.values())
    ticks = _ticks(max(y for points in thinned.values() for _, y in points))
    lines = "".join(
        f'<polyline class="line{number % N_COLOURS}" points="{_line(points, first, last, ticks[-1])}">'
        f"<title>{text(name)}</title></polyline>"
        for number, (name, points) in enumerate(thinned.items())
    )
    legend = "".join(
        f'<span><i class="line{number % N_COLOURS}"></i>{text(name)}</span>' for number, name in enumerate(thinned)
    )
    return f'<p class="legend">{legend}</p>{_axes(lines, ticks, first, last, unit, said)}'


def _line(points: Sequence[tuple[float, float]], first: float, last: float, top: float) -> str:
    return " ".join(f"{100 * (x - first) / (last - first):.2f},{100 - 100 * y / top:.2f}" for x, y in points)


def _axes(lines: str, ticks: Sequence[float], first: float, last: float, unit: str, said: str) -> str:
    grid = "".join(
        f'<line x1="0" x2="100" y1="{y:.2f}" y2="{y:.2f}"/>' for y in (100 - 100 * t / ticks[-1] for t in ticks)
    )
    labels = "".join(f"<span>{tick:g}</span>" for tick in reversed(ticks))
    box = f'viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{text(said)}"'
    return (
        f'<div class="loss"><div class="y">{labels}</div><svg {box}>{grid}{lines}</svg>'
        f'<div class="x"><span>{text(unit)} {first:g}</span><span>{last:g}</span></div></div>'
    )


def _thinned(losses: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_LOSSES` points: means over equal pieces."""
    size = math.ceil(len(losses) / MAX_LOSSES)
    pieces = (losses[i : i + size] for i in range(0, len(losses), size))
    return [(sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece)) for piece in pieces]


def _ticks(highest: float) -> list[float]:
    """Round numbers from 0 to at least `highest`, six at most."""
    power = 10.0 ** math.floor(math.log10(highest or 1.0))
    spacing = next(power * factor for factor in (0.2, 0.5, 1.0, 2.0) if power * factor * 5 >= highest)
    return [spacing * i for i in range(math.ceil(highest / spacing) + 1)]
