"""Writes the report's pages: HTML and CSS, nothing loaded from anywhere.

Its own Content-Security-Policy forbids a page to load or to run anything, should a text ever slip through
`markup.text`. Only the row browser has a script, which the policy names by its hash.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datagen.report.charts import funnel, loss_curve, rate_bars
from datagen.report.figures import ALL, Figures, Row, Sample, Unseen
from datagen.report.markup import duration, long_text, percent, plain, section, text, wide

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render(figures: Figures, more: str = "", n_rows: int = 0, overview: str = "", spread: str = "") -> str:
    """The whole page; `more`, `overview` and `spread` are HTML of further sections, `n_rows` what the browser has."""
    body = (
        _header(figures, n_rows),
        overview,
        funnel(figures.steps),
        rate_bars(figures.rates),
        spread,
        loss_curve(figures.losses),
        _samples(figures.samples),
        _unseen(figures.unseen),
        more,
        _runs(figures.runs),
        _origins(figures),
    )
    footer = "<code>datastill why ID</code> tells the whole way of any row shown here."
    return document("datastill: from prompts to a trained student", "".join(body), footer)


def document(title: str, body: str, footer: str, *, style: str = "", script: str = "") -> str:
    """A page complete in itself; the arguments are HTML.

    `style` is what it needs besides style.css; `script` is the one that may run, after all else is there.
    """
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8") + style
    policy, run = POLICY, ""
    if script:
        digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
        policy, run = f"{POLICY}; script-src 'sha256-{digest}'", f"<script>\n{script}</script>\n"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}<footer>{footer}</footer>
</main>
{run}</body>
</html>
"""


def _header(figures: Figures, n_rows: int) -> str:
    verified = figures.steps["verified"]
    before, after = (figures.rates.get(who, {}).get(ALL) for who in ("before", "after"))
    if before and after and "student" in figures.steps:
        headline = f'<span class="from">{percent(before.value)}</span> → <span class="to">{percent(after.value)}</span>'
        lead = (
            f"of {text(figures.manifests['student']['base']['name'])}'s answers to {before.n:,} prompts that it never "
            f"saw pass every check, before and after training on {figures.steps['student'].n_out:,} verified answers."
        )
        if figures.gain:
            mean, low, high = (100 * figures.gain[name] for name in ("mean", "low", "high"))
            lead += f" The gain is {mean:.1f} points, 95 % interval {low:.1f} to {high:.1f}."
    else:
        headline = f'<span class="to">{percent(verified.n_out / max(1, verified.n_in))}</span>'
        lead = f"of {verified.n_in:,} answers were verified: {verified.n_out:,} rows to train on."
    tiles = {
        "prompts": figures.steps["prompts"].n_out,
        "answers judged": verified.n_in,
        "answers verified": verified.n_out,
        "prompt tokens": figures.tokens[0],
        "answer tokens": figures.tokens[1],
    }
    shown = "".join(f"<div><dd>{value:,}</dd><dt>{label}</dt></div>" for label, value in tiles.items())
    if (each := (figures.runs.get("verify") or {}).get("cost_per_verified_row")) is not None:
        shown += f"<div><dd>{each:.6g}</dd><dt>cost of a verified answer</dt></div>"
    browse = f'<p class="browse"><a href="rows.html">Search all {n_rows:,} rows</a></p>\n' if n_rows else ""
    return (
        f'<header>\n<p class="brand">datastill</p>\n<h1>{headline}</h1>\n<p class="lead">{lead}</p>\n'
        f'<dl class="tiles">{shown}</dl>\n{browse}</header>\n'
    )


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
    return section("Kept and dropped, side by side", intro, cards) if cards else ""


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
    return section("Before and after training", intro, cards) if cards else ""


def _card(family: str, row: Row, *answers: str) -> str:
    messages = row["messages"]
    said = "".join(
        (f'<span class="label">{text(message["role"])}</span>' if len(messages) > 1 else "")
        + _block(message["content"] or "")
        for message in messages
    )
    reference = row.get("reference")
    known = f'<p class="detail">reference: <code>{long_text(reference)}</code></p>' if reference else ""
    return (
        f'<article class="sample"><div class="prompt"><span class="label"><b>{text(family)}</b> · '
        f'<code>{text(row["prompt_id"])}</code></span>{said}{known}</div><div class="pair">{"".join(answers)}</div>'
        "</article>\n"
    )


def _answer(label: str, row: Row, why: Row | None) -> str:
    """An answer and, where it was dropped, under which reason and why."""
    look = "dropped" if why else "kept"
    reason = f": <code>{text(why['reason'])}</code>" if why else ""
    detail = f'<p class="detail">{long_text(why["detail"])}</p>' if why else ""
    thought = (
        f"<details><summary>reasoning</summary>{_block(row['reasoning'])}</details>" if row.get("reasoning") else ""
    )
    return (
        f'<div class="answer {look}"><span class="label {look}-text">{label}{reason}</span>'
        f"{thought}{_block(row['completion'])}{detail}</div>"
    )


def _no_answer(label: str) -> str:
    return f'<div class="answer"><span class="label">no answer to this prompt was {label}</span></div>'


def _block(whole: str) -> str:
    return f'<div class="text" dir="auto">{long_text(whole)}</div>'


def _runs(runs: Mapping[str, Mapping[str, Any] | None]) -> str:
    heads = ("stage", "time", "processor time", "peak memory", "counted by the stage")
    numbers = {"time", "processor time", "peak memory"}
    head = "".join(f"<th{' class=number' if name in numbers else ''}>{name}</th>" for name in heads)
    rows = "".join(f'<tr><th scope="row">{text(stage)}</th>{_run(facts)}</tr>\n' for stage, facts in runs.items())
    table = wide(
        f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>', "time and memory by stage"
    )
    return section("Time and memory", "As measured when each stage last ran here.", table, id="runs") if rows else ""


def _run(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return '<td colspan="4" class="more">not measured here</td>'
    facts = dict(facts)
    times = [duration(facts.pop(name)) for name in ("seconds", "cpu_seconds")]
    memory = f"{facts.pop('peak_memory_bytes') / 1e9:.2f} GB"
    counts = ", ".join(
        f"{text(name.replace('_', ' '))} {text(f'{value:,.10g}' if isinstance(value, int | float) else value)}"
        for name, value in sorted(facts.items())
    )
    return "".join(f'<td class="number">{cell}</td>' for cell in (*times, memory)) + f"<td>{counts}</td>"


def _origins(figures: Figures) -> str:
    raw = ", ".join(f"{text(origin)} {n:,}" for origin, n in figures.sources.items())
    rows = f'<tr><th scope="row">raw material</th><td>{raw}</td></tr>\n' if raw else ""
    rows += "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{_origin(manifest)}</td></tr>\n'
        for name, manifest in figures.manifests.items()
    )
    intro = "What each manifest says of its run. The same params and inputs give the same bytes."
    return section("How it was made", intro, f'<table class="facts manifests"><tbody>{rows}</tbody></table>')


def _origin(manifest: Mapping[str, Any]) -> str:
    said = {
        key: manifest[key]
        for key in ("method", "teacher", "base", "models", "paper", "sources", "licences")
        if manifest.get(key)
    }
    lines = "".join(f"<div>{key}: <code>{text(plain(value))}</code></div>" for key, value in said.items())
    params = "".join(
        f"<code>{text(key)}: {text(plain(value))}</code>"
        for key, value in sorted(manifest.get("params", {}).items())
        if key not in said
    )
    return f'{lines}<div class="params">{params}</div>'
