"""The report's sections about a corpus: rows and labels, examples, diversity, labels outside the taxonomy, transfer."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from datagen.contracts.dataset import read_manifest
from datagen.contracts.errors import DataError
from datagen.report.markup import css, long_text, percent, section, text, wide

N_EXAMPLES = 6
MAX_ROWS = 20  # of a table
GROUPS = {"all": "all", "not_neutral": "with a label", "neutral": "neutral"}
DIVERSITY = {  # figure to what it is called, and whether it is a share
    "texts": ("texts", False),
    "distinct_2": ("distinct-2", False),
    "self_bleu": ("self-BLEU", False),
    "nearest_cosine": ("mean nearest cosine", False),
    "near_by_cosine": ("near-duplicates by meaning", True),
    "near_by_words": ("near-duplicates by words", True),
    "topics": ("topics (Vendi score)", False),
}
SCRIPTED = "scripted"  # the backend whose figures are no teacher's

Row = dict[str, Any]


def corpus_sections(corpus: Path, evaluation: Path | None) -> str:
    """The sections, as HTML.

    Args:
        corpus: dataset that the corpus stage wrote.
        evaluation: dataset that evaluate_encoder wrote of a student of it.

    Raises:
        DataError: either was written by another stage.
    """
    manifest = _read_manifest(corpus, "corpus")
    figures = manifest.get("figures", {})
    return "".join(
        (
            _summary(manifest, figures),
            _examples(corpus),
            _diversity(figures.get("diversity")),
            _label_map(corpus),
            _transfer(_read_manifest(evaluation, "evaluate_encoder")["figures"]) if evaluation else "",
        )
    )


def _read_manifest(dataset: Path, stage: str) -> Row:
    manifest = read_manifest(dataset)
    if manifest.get("stage") != stage:
        raise DataError(f"{dataset}: expected what {stage} writes, found {manifest.get('stage', 'another folder')}")
    return manifest


def _summary(manifest: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    rows = manifest["rows"]
    intro = (
        f"{text(manifest['teacher'].get('model', manifest['method']))} wrote {rows['out']:,} rows by "
        f"<code>{text(manifest['method'])}</code>, and {rows['rejected']:,} were dropped on the way."
    )
    if manifest["params"].get("backend") == SCRIPTED:
        intro += " It is a script, not a model: nothing here says how well a teacher writes."
    tables = (
        _counts("dropped for", manifest["rejected"]),
        _counts("calls by step", {name.removeprefix("calls."): n for name, n in _calls(figures).items()}),
        _counts("label", figures.get("labels", {})),
    )
    return section("The corpus", intro, "".join(tables), id="corpus")


def _calls(figures: Mapping[str, Any]) -> dict[str, int]:
    return {name: n for name, n in figures.get("steps", {}).items() if name.startswith("calls.")}


def _counts(title: str, counts: Mapping[str, int]) -> str:
    shown = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MAX_ROWS]
    most = max((n for _, n in shown), default=0) or 1
    rows = "".join(
        f'<tr><td><code>{text(name)}</code></td><td><div class="meter" style="width:{css(n / most)}"></div></td>'
        f'<td class="number">{n:,}</td></tr>'
        for name, n in shown
    )
    return f'<h3>{title}</h3><table class="reasons">{rows}</table>' if rows else ""


def _examples(corpus: Path) -> str:
    rows = pl.scan_parquet(corpus / "part-*.parquet")
    if "labels" not in rows.collect_schema():
        return ""
    ids = rows.select("id", "family").collect()
    chosen: list[str] = []
    for of_family in ids.sort("family").partition_by("family"):
        n = max(1, N_EXAMPLES // ids["family"].n_unique())
        chosen += sorted(of_family["id"], key=_hash)[:n]
    found = rows.filter(pl.col("id").is_in(chosen)).sort("family", "id").collect()
    cards = "".join(map(_card, found.iter_rows(named=True)))
    return section("What it says", "Rows chosen by the hash of their ids, not by hand.", cards) if cards else ""


def _card(row: Row) -> str:
    labels = ", ".join(f"{text(one['name'])} {one['weight']:g}" for one in row["labels"])
    told = "".join(
        f'<span class="label">{name}</span><div class="text" dir="auto">{long_text(row[name])}</div>'
        for name in ("character", "context")
        if row.get(name)
    )
    return (
        f'<article class="sample"><div class="prompt"><span class="label"><b>{text(row["family"])}</b> · '
        f'<code>{text(row["id"])}</code></span>{told}<span class="label">text</span>'
        f'<div class="text" dir="auto">{long_text(row["text"])}</div></div>'
        f'<div class="pair"><div class="answer kept"><span class="label kept-text">{labels or "no label"}</span></div>'
        "</div></article>\n"
    )


def _diversity(figures: Mapping[str, Any] | None) -> str:
    groups = {name: figures[name] for name in GROUPS if figures and figures.get(name) and figures[name]["texts"]}
    if not groups or not figures:
        return ""
    head = "".join(f'<th class="number">{GROUPS[name]}</th>' for name in groups)
    rows = "".join(
        f'<tr><th scope="row">{said}</th>{"".join(_cell(of.get(key), is_share) for of in groups.values())}</tr>'
        for key, (said, is_share) in DIVERSITY.items()
    )
    labels = figures["labels"]
    intro = (
        f"Of the utterances without their contexts. {labels['effective']:.1f} labels' worth are written evenly, of "
        f"{len(labels['counts'])}. Compare only corpora of one size: most of these depend on it."
    )
    return section("How diverse it is", intro, _table(f"<th></th>{head}", rows))


def _cell(value: float | None, is_share: bool) -> str:
    said = "too few" if value is None else percent(value) if is_share else f"{value:,.3g}"
    return f'<td class="number">{said}</td>'


def _label_map(corpus: Path) -> str:
    if not (table := corpus / "label_map.parquet").exists():
        return ""
    known = pl.col("how") == "exact"
    found = pl.read_parquet(table)
    other = found.filter(~known)
    n, n_known = int(found["n"].sum()), int(found.filter(known)["n"].sum())
    rows = "".join(map(_mapped, other.head(MAX_ROWS).iter_rows(named=True)))
    head = '<th>proposed</th><th class="number">times</th><th>taken for</th><th class="number">cosine</th><th>how</th>'
    intro = (
        f"{n_known:,} of {n:,} labels that the teacher proposed are the taxonomy's; the other {n - n_known:,} are of "
        f"{len(other):,} kinds, of which these are the most frequent."
    )
    return section("Labels outside the taxonomy", intro, _table(head, rows) if rows else "") if n else ""


def _mapped(row: Row) -> str:
    cosine = "" if row["cosine"] is None else f"{row['cosine']:.2f}"
    taken = f"<code>{text(row['mapped_to'])}</code>" if row["mapped_to"] else "dropped"
    return (
        f'<tr><td><code>{long_text(row["proposed"])}</code></td><td class="number">{row["n"]:,}</td><td>{taken}</td>'
        f'<td class="number">{cosine}</td><td>{text(row["how"])}</td></tr>'
    )


def _transfer(figures: Mapping[str, Any]) -> str:
    interval = figures["macro_f1_interval"]
    classes: Sequence[tuple[str, Mapping[str, Any]]] = sorted(
        figures["by_class"].items(), key=lambda one: (-one[1]["f1"], one[0])
    )
    head = '<th>class</th><th class="number">rows</th>' + "".join(
        f'<th class="number">{name}</th>' for name in ("precision", "recall", "F1")
    )
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td class="number">{one["support"]:,}</td>{_scores(one)}</tr>'
        for name, one in classes
    )
    intro = (
        f"A student of this corpus on {figures['n_rows']:,} real rows that it never saw: macro-F1 "
        f"{figures['macro_f1']:.3f}, 95 % interval {interval['low']:.3f} to {interval['high']:.3f}; calibration error "
        f"{figures['calibration_error']:.3f}."
    )
    return section("What a student learns from it", intro, _table(head, rows))


def _scores(one: Mapping[str, Any]) -> str:
    return "".join(f'<td class="number">{one[name]:.2f}</td>' for name in ("precision", "recall", "f1"))


def _table(head: str, rows: str | Iterable[str]) -> str:
    table = f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return wide(table, "figures of the corpus")


def _hash(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()
