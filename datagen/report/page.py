"""Writes the report's page: HTML and CSS alone, no script, nothing loaded from anywhere.

Text of models, users and servers is hostile: every value goes through `_text`, and the page's own
Content-Security-Policy forbids it to load or to run anything.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from datagen.report.figures import ALL, Figures, Rate, Row, Sample, Step, Unseen

MAX_TEXT = 1200  # characters shown of one text
MAX_REASONS = 12
MAX_LOSSES = 400  # points of the curve; more are averaged in equal pieces
WHO = {"teacher": "teacher, sampled", "before": "student before training", "after": "student after training"}
STEPS = {  # of the funnel: title, and what went on
    "prompts": ("Prompts", "prompts"),
    "traces": ("Sampled", "answers"),
    "verified": ("Verified", "kept"),
    "student": ("Trained on", "rows"),
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(figures: Figures) -> str:
    """The whole page."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    body = (
        _header(figures),
        _funnel(figures.steps),
        _rates(figures.rates),
        _losses(figures.losses),
        _samples(figures.samples),
        _unseen(figures.unseen),
        _runs(figures.runs),
        _origins(figures.manifests),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>datastill: from prompts to a trained student</title>
<style>
{style}</style>
</head>
<body>
<main>
{"".join(body)}<footer><code>datastill why ID</code> tells the whole way of any row shown here.</footer>
</main>
</body>
</html>
"""


def _header(figures: Figures) -> str:
    verified = figures.steps["verified"]
    before, after = (figures.rates.get(who, {}).get(ALL) for who in ("before", "after"))
    if before and after:
        headline = (
            f'<span class="from">{_percent(before.value)}</span> → <span class="to">{_percent(after.value)}</span>'
        )
        lead = (
            f"of {_text(figures.manifests['student']['base']['name'])}'s answers to {before.n:,} prompts that it never "
            f"saw pass every check, before and after training on {figures.steps['student'].n_out:,} verified answers."
        )
        if figures.gain:
            mean, low, high = (100 * figures.gain[name] for name in ("mean", "low", "high"))
            lead += f" The gain is {mean:.1f} points, 95 % interval {low:.1f} to {high:.1f}."
    else:
        headline = f'<span class="to">{_percent(verified.n_out / max(1, verified.n_in))}</span>'
        lead = f"of {verified.n_in:,} answers were verified: {verified.n_out:,} rows to train on."
    tiles = {
        "prompts": figures.steps["prompts"].n_out,
        "answers judged": verified.n_in,
        "answers verified": verified.n_out,
        "tokens of all prompts": figures.tokens[0],
        "tokens of all answers": figures.tokens[1],
    }
    shown = "".join(f"<div><dd>{value:,}</dd><dt>{label}</dt></div>" for label, value in tiles.items())
    return (
        f'<header>\n<p class="brand">datastill</p>\n<h1>{headline}</h1>\n<p class="lead">{lead}</p>\n'
        f'<dl class="tiles">{shown}</dl>\n</header>\n'
    )


def _funnel(steps: Mapping[str, Step]) -> str:
    n_answers = max(1, steps["traces"].n_in)
    rows = "".join(
        _step(*STEPS[name], step, 1.0 if name == "prompts" else step.n_in / n_answers) for name, step in steps.items()
    )
    return _section(
        "From prompts to the training set",
        "Every row that came in went on or was dropped for one reason. Nothing is lost on the way.",
        rows,
    )


def _step(title: str, unit: str, step: Step, width: float) -> str:
    n_dropped = sum(step.reasons.values())
    parts = (("kept", step.n_out), ("dropped", n_dropped))
    split = "".join(f'<i class="{name}" style="flex:{n}"></i>' for name, n in parts if n)
    dropped = f'<span class="dropped-text">{n_dropped:,} dropped</span>' if n_dropped else "none dropped"
    return (
        f'<div class="step"><div><h3>{title}</h3><p class="note">{_text(step.note)}</p></div><div>'
        f'<div class="split" style="width:{_css(width)}">{split}</div>'
        f'<p class="counts"><span class="kept-text">{step.n_out:,} {unit}</span><span>{dropped}</span></p>'
        f"{_reasons(step.reasons, n_dropped)}</div></div>\n"
    )


def _reasons(reasons: Mapping[str, int], total: int) -> str:
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = [(f"<code>{_text(reason)}</code>", n) for reason, n in ranked[:MAX_REASONS]]
    if rest := ranked[MAX_REASONS:]:
        shown.append((f"{len(rest)} more reasons", sum(n for _, n in rest)))
    rows = "".join(
        f'<tr><td>{name}</td><td><div class="meter" style="width:{_css(n / max(n for _, n in shown))}"></div></td>'
        f'<td class="number">{n:,}</td><td class="number">{_percent(n / total)}</td></tr>'
        for name, n in shown
    )
    return f'<table class="reasons">{rows}</table>' if rows else ""


def _rates(rates: Mapping[str, Mapping[str, Rate]]) -> str:
    who = [name for name in WHO if rates.get(name)]
    last = rates[who[-1]]
    families = sorted({family for name in who for family in rates[name]} - {ALL})
    families.sort(key=lambda family: -(last[family].value if family in last else -1.0))
    legend = "".join(f'<span><i class="{name}"></i>{WHO[name]}</span>' for name in who)
    rows = "".join(
        f'<tr{" class=overall" if family == ALL else ""}><th scope="row">{_text(family) or "no family"}</th><td>'
        + "".join(_bar(name, rates[name].get(family)) for name in who)
        + "</td></tr>\n"
        for family in [ALL, *families]
    )
    return _section(
        "Verified rate by family",
        "The share of answers that pass every check. The student is asked about prompts that it never saw. "
        "Lines are 95 % intervals.",
        f'<p class="legend">{legend}</p>\n<table class="rates">\n{rows}</table>',
    )


def _bar(who: str, rate: Rate | None) -> str:
    if rate is None:
        return '<div class="bar"><span class="track"></span><span class="number">none</span></div>'
    title = (
        f"{WHO[who]}: {rate.n_passed:,} of {rate.n:,} answers, "
        f"95 % interval {_percent(rate.low)} to {_percent(rate.high)}"
    )
    return (
        f'<div class="bar" title="{title}"><span class="track">'
        f'<i class="fill {who}" style="width:{_css(rate.value)}"></i>'
        f'<i class="interval" style="left:{_css(rate.low)};width:{_css(rate.high - rate.low)}"></i></span>'
        f'<span class="number">{_percent(rate.value)}</span></div>'
    )


def _losses(losses: Sequence[tuple[float, float]]) -> str:
    if len(losses) < 2:
        return ""
    points = _thinned(losses)
    (first, _), (last, _) = points[0], points[-1]
    ticks = _ticks(max(loss for _, loss in points))
    top = ticks[-1]
    line = " ".join(f"{100 * (x - first) / (last - first):.2f},{100 - 100 * loss / top:.2f}" for x, loss in points)
    grid = "".join(f'<line x1="0" x2="100" y1="{y:.2f}" y2="{y:.2f}"/>' for y in (100 - 100 * t / top for t in ticks))
    labels = "".join(f"<span>{tick:g}</span>" for tick in reversed(ticks))
    return _section(
        "Training loss",
        f"Nats a token of the answers, {losses[0][1]:.3f} at the first step and {losses[-1][1]:.3f} at the last.",
        f'<div class="loss"><div class="y">{labels}</div>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="loss by step">{grid}'
        f'<polyline points="{line}"/></svg><div class="x"><span>step {first:g}</span><span>{last:g}</span></div></div>',
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


def _samples(samples: Iterable[Sample]) -> str:
    cards = "".join(
        _card(
            sample.family,
            sample.kept or sample.dropped or {},
            _answer("kept", sample.kept, None) if sample.kept else _no_answer("kept"),
            _answer("dropped", sample.dropped, sample.why) if sample.dropped else _no_answer("dropped"),
        )
        for sample in samples
    )
    intro = "Real answers to the same prompt. They were chosen by the hash of the prompt's id, not by hand."
    return _section("Kept and dropped, side by side", intro, cards) if cards else ""


def _unseen(unseen: Iterable[Unseen]) -> str:
    cards = "".join(
        _card(
            one.family,
            one.before,
            _answer(
                "before training, " + ("not verified" if one.before_why else "verified"), one.before, one.before_why
            ),
            _answer("after training, " + ("not verified" if one.after_why else "verified"), one.after, one.after_why),
        )
        for one in unseen
    )
    intro = "The student's answers to prompts that it never saw, chosen in the same way, whatever came of them."
    return _section("Before and after training", intro, cards) if cards else ""


def _card(family: str, row: Row, *answers: str) -> str:
    messages = row["messages"]
    said = "".join(
        (f'<span class="label">{_text(message["role"])}</span>' if len(messages) > 1 else "")
        + _block(message["content"] or "")
        for message in messages
    )
    reference = row.get("reference")
    known = f'<p class="detail">reference: <code>{_long(reference)}</code></p>' if reference else ""
    return (
        f'<article class="sample"><div class="prompt"><span class="label"><b>{_text(family)}</b> · '
        f'<code>{_text(row["prompt_id"])}</code></span>{said}{known}</div><div class="pair">{"".join(answers)}</div>'
        "</article>\n"
    )


def _answer(label: str, row: Row, why: Row | None) -> str:
    """An answer and, where it was dropped, under which reason and why."""
    look = "dropped" if why else "kept"
    reason = f": <code>{_text(why['reason'])}</code>" if why else ""
    detail = f'<p class="detail">{_long(why["detail"])}</p>' if why else ""
    thought = (
        f"<details><summary>reasoning</summary>{_block(row['reasoning'])}</details>" if row.get("reasoning") else ""
    )
    return (
        f'<div class="answer {look}"><span class="label {look}-text">{label}{reason}</span>'
        f"{thought}{_block(row['completion'])}{detail}</div>"
    )


def _no_answer(label: str) -> str:
    return f'<div class="answer"><span class="label">no answer to this prompt was {label}</span></div>'


def _block(text: str) -> str:
    return f'<div class="text" dir="auto">{_long(text)}</div>'


def _runs(runs: Mapping[str, Mapping[str, Any] | None]) -> str:
    heads = ("stage", "time", "processor time", "peak memory", "counted by the stage")
    numbers = {"time", "processor time", "peak memory"}
    head = "".join(f"<th{' class=number' if name in numbers else ''}>{name}</th>" for name in heads)
    rows = "".join(f'<tr><th scope="row">{_text(stage)}</th>{_run(facts)}</tr>\n' for stage, facts in runs.items())
    table = (
        f'<div class="scroll"><table class="facts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return _section("Time and memory", "As measured when each stage last ran here.", table, id="runs") if rows else ""


def _run(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return '<td colspan="4" class="more">not measured here</td>'
    facts = dict(facts)
    times = [_duration(facts.pop(name, None)) for name in ("seconds", "cpu_seconds")]
    memory = facts.pop("peak_memory_bytes", None)
    counts = ", ".join(
        f"{_text(name.replace('_', ' '))} {_text(f'{value:,.10g}' if isinstance(value, int | float) else value)}"
        for name, value in sorted(facts.items())
    )
    cells = [*times, f"{memory / 1e9:.2f} GB" if memory else ""]
    return "".join(f'<td class="number">{cell}</td>' for cell in cells) + f"<td>{counts}</td>"


def _origins(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_origin(manifest)}</td></tr>\n'
        for name, manifest in manifests.items()
    )
    intro = "What each manifest says of its run. The same params and inputs give the same bytes."
    return _section("How it was made", intro, f'<table class="facts"><tbody>{rows}</tbody></table>')


def _origin(manifest: Mapping[str, Any]) -> str:
    said = {
        key: manifest[key]
        for key in ("method", "teacher", "base", "models", "paper", "sources", "licences")
        if manifest.get(key)
    }
    lines = "".join(f"<div>{key}: <code>{_text(_value(value))}</code></div>" for key, value in said.items())
    params = "".join(
        f"<code>{_text(key)}: {_text(_value(value))}</code>"
        for key, value in sorted(manifest.get("params", {}).items())
        if key not in said
    )
    return f'{lines}<div class="params">{params}</div>'


def _section(title: str, intro: str, body: str, id: str = "") -> str:
    name = f' id="{id}"' if id else ""
    return f"<section{name}>\n<h2>{title}</h2>\n<p>{intro}</p>\n{body}\n</section>\n"


def _text(value: object) -> str:
    """Any value as text of the page: escaped, and what is invisible or turns the writing direction made visible."""
    return escape(
        "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))
    )


def _long(text: str) -> str:
    cut = len(text) - MAX_TEXT
    return _text(text[:MAX_TEXT]) + (f'<span class="more"> … {cut:,} more characters</span>' if cut > 0 else "")


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(one)}" for key, one in sorted(value.items()))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u202f%"


def _css(share: float) -> str:
    return f"{100 * share:.2f}%"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
