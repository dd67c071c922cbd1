"""The report's section about what a model gives back of its training data: shares, curves, and pairs side by side."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from datagen.contracts.dataset import iterate
from datagen.contracts.inputs import InputParams
from datagen.contracts.records import Rejection
from datagen.extraction.texts import read_texts
from datagen.report.charts import lines_chart
from datagen.report.condensed import written_by
from datagen.report.markup import long_text, percent, section, text, wide

MEASURES = {"cosine": "cosine of embeddings", "edit": "edit similarity", "indel": "indel similarity"}
N_PAIRS = 4


def extraction_section(extracted: Path, match: Path, against: Path) -> str:
    """The section, as HTML.

    Args:
        extracted: dataset that extract wrote.
        match: dataset that match wrote of it.
        against: what it was matched with.

    Raises:
        DataError: either was written by another stage.
    """
    start = written_by(extracted, "extract")["template"]
    manifest = written_by(match, "match")
    curves: list[Mapping[str, float]] = json.loads((match / "curves.json").read_text())
    written, rows = _texts(extracted), _texts(against)
    pairs = sorted(iterate(match), key=lambda pair: (-pair["cosine"], pair["id"]))
    rate = manifest["params"]["false_match_rate"]
    intro = (
        f"{len(written):,} texts that the model wrote from its chat template's start alone, beside {len(rows):,} rows. "
        "A text matches where it is at least as near as the threshold, which texts that the model never saw pass with "
        f"a probability of at most {rate:g}. What is extracted keeps its source's licence."
    )
    lines = {
        said: [(row["threshold"], row[f"{measure}_extracted"]) for row in curves] for measure, said in MEASURES.items()
    }
    shares = "share of the texts that match any row, by threshold"
    body = (
        f'<p class="detail">It goes on from <code>{text(start["prefix"])}</code></p>'
        f"{_table(pl.read_parquet(match / 'nearest.parquet'), manifest['thresholds'])}"
        f"<h3>{shares}</h3>{lines_chart(lines, 'threshold', shares)}"
        f"<h3>nearest pairs</h3>{''.join(_pair(pair, written, rows) for pair in pairs[:N_PAIRS])}"
    )
    return section("What the model gives back of its training data", intro, body)


def _texts(path: Path) -> dict[str, str]:
    read = read_texts(path, "report", InputParams())
    return {one.id: one.text for one in read if not isinstance(one, Rejection)}


def _table(nearest: pl.DataFrame, thresholds: Mapping[str, float]) -> str:
    """Shares that match, in both directions, each measure at its own threshold and by its own nearest text."""
    head = "".join(f'<th class="number">{one}</th>' for one in ("threshold", "texts that match", "rows matched"))
    lines: list[str] = []
    for measure, said in MEASURES.items():
        cells = f'<td class="number">{thresholds[measure]:.3f}</td>'
        for side in ("extracted", "against"):
            matches = nearest.filter(measure=measure, side=side)["matches"]
            cells += f'<td class="number">{percent(int(matches.sum()) / max(1, len(matches)))}</td>'
        lines.append(f'<tr><th scope="row">{said}</th>{cells}</tr>')
    table = f'<table class="facts few"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return wide(table, "shares that match, by measure")


def _pair(pair: Mapping[str, Any], written: Mapping[str, str], rows: Mapping[str, str]) -> str:
    figures = f"cosine {pair['cosine']:.3f}, edit similarity {pair['edit_similarity']:.3f}"
    cells = "".join(
        f'<div class="answer"><span class="label">{said}: <code>{text(pair[column])}</code></span>'
        f'<div class="text" dir="auto">{long_text(texts.get(pair[column], ""))}</div></div>'
        for said, column, texts in (("written", "id", written), ("row", "neighbour_id", rows))
    )
    return (
        f'<article class="sample"><div class="prompt"><span class="label">{figures}</span></div>'
        f'<div class="pair">{cells}</div></article>\n'
    )
