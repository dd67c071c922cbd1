"""The card of a dataset: README.md with metadata that the Hub reads, from manifests, tables and checks alone.

Fields of the metadata: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md, and its `configs` as
https://huggingface.co/docs/hub/datasets-manual-configuration says.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from datagen.publish import sections
from datagen.publish.facts import TASKS, licence_fields, limits, size_category, title_of
from datagen.publish.history import History, Step
from datagen.publish.layout import ROWS, Layout
from datagen.publish.meanings import column_meanings
from datagen.publish.statistics import Column, Languages, count_columns, tell_languages

if TYPE_CHECKING:
    from datagen.publish.gates import Checked

_TABLES = {
    ROWS: "the rows",
    "rejections": "what was dropped, with its reason",
    "rejected": "rows that did not pass, whole",
    "verdicts": "what each verifier said of each row",
}
_EXACT = {"condensed.safetensors": "train_image --images", "condensed_graphs.safetensors": "train_graph --graphs"}
_MAX_CLASSES = 30  # whose names are listed
_MAX_CHARS = 1200  # of a text in the example


def dataset_card(layout: Layout, history: History, checked: "Checked", *, repo: str) -> str:
    """README.md of a dataset.

    Args:
        layout: the folder that is published; its Parquet files are read.
        history: of its directories.
        checked: what the gates said.
        repo: `ORG/NAME`, for the lines that load it.
    """
    files = {split: [layout.folder / one for one in of] for split, of in layout.configs.get(ROWS, {}).items()}
    every = [file for of in files.values() for file in of]
    columns = count_columns(every)
    languages = tell_languages(every)
    metadata = _metadata(layout, history, checked, languages)
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120)
    body = [
        f"# {metadata['pretty_name']}",
        _what_it_is(layout, history, languages),
        sections.overridden(checked),
        _extracted(history),
        _load(layout, repo),
        _tables(layout),
        _meanings(layout, columns),
        _example(layout, every) if "personal_data" not in checked.allowed else "",  # it would say them again
        sections.pipeline(history),
        sections.models(history, checked),
        sections.prompts(history),
        sections.verification(history),
        sections.funnel(history),
        _statistics(columns, with_values="personal_data" not in checked.allowed),  # likewise
        _evaluated(history),
        sections.section("Known limits", _listed(limits(layout, history, checked, columns, languages))),
        _decontamination(checked),
        sections.checks(checked),
        sections.licence(checked),
        sections.cost(history),
        sections.commands(history),
        sections.citations(history),
    ]  # fmt: skip
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def _metadata(layout: Layout, history: History, checked: "Checked", languages: Languages) -> dict[str, Any]:
    n = sum(layout.n_rows[ROWS].values())
    tags = {"datastill": True, "synthetic": history.is_synthetic, "extracted": history.extracted_from is not None}
    task = TASKS.get(layout.record or "")
    fields: dict[str, Any] = {
        "pretty_name": title_of(history),
        **licence_fields(checked.resolved),
        "language": list(languages.shares),
        "task_categories": [task] if task else [],
        "size_categories": [size_category(n)],
        "source_datasets": _source_datasets(checked),
        "tags": [tag for tag, is_so in tags.items() if is_so],
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": pattern} for split, pattern in of.items()],
                **({"default": True} if config == ROWS else {}),
            }
            for config, of in layout.patterns.items()
        ],
        "dataset_info": [
            {
                "config_name": config,
                "features": [dict(one) for one in features],
                "splits": [{"name": split, "num_examples": rows} for split, rows in layout.n_rows[config].items()],
                "download_size": sum(layout.n_bytes[config].values()),
            }
            for config, features in layout.features.items()
        ],
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value}


def _source_datasets(checked: "Checked") -> list[str]:
    """Names of the Hub where the data is from there, else `original` as the Hub writes it."""
    prefix = "https://huggingface.co/datasets/"
    urls = [one.url for one in checked.resolved.sources if one.kind == "data" and one.url]
    return sorted({url.removeprefix(prefix) for url in urls if url.startswith(prefix)}) or ["original"]


def _listed(points: Iterable[str]) -> str:
    return "\n".join(f"- {one}" for one in points)


def _what_it_is(layout: Layout, history: History, languages: Languages) -> str:
    n = layout.n_rows[ROWS]
    splits = ", ".join(f"{rows:,} in `{split}`" for split, rows in n.items())
    told = [
        f"{sum(n.values()):,} rows ({splits}), made by [datastill](#make-it-again) in {sections.steps_of(history)}."
    ]
    if history.is_synthetic:
        told.append("The data is synthetic: models or training made it, not people.")
    last = history.last
    for name, source in last.parents.items():
        rows = next(step.rows for step in history.steps if step.path == source)
        if last.stage.startswith("condense_") and rows and name in ("images", "graphs"):
            told.append(f"They stand for the {rows['out']:,} rows of `{source}`{_size(last)}.")
    if languages.shares:
        shares = ", ".join(f"`{name}` {100 * share:.0f} %" for name, share in languages.shares.items())
        told.append(f"Languages: {shares} of {languages.n_texts:,} texts, evenly drawn from the rows (py3langid).")
    told.append(f"This revision is tagged `{layout.tag}`, the start of the data's SHA-256.")
    return " ".join(told)


def _size(step: Step) -> str:
    n_bytes = step.manifest.get("bytes", {}).get("total")
    return f", in {n_bytes:,} bytes as evaluations of condensed data count them" if n_bytes else ""


def _extracted(history: History) -> str:
    model = history.extracted_from
    if model is None:
        return ""
    return (
        f"> **Extracted data.** `{model.name}` was asked to write from nothing but its chat template, which gives back "
        "what it was trained on. Such text keeps the licence of the data that it is from, whatever the model's own: "
        "check that data's terms before use."
    )


def _load(layout: Layout, repo: str) -> str:
    splits = list(layout.n_rows[ROWS])
    lines = ["from datasets import load_dataset", "", f'rows = load_dataset("{repo}", split="{splits[0]}")']
    lines += [
        f'{config} = load_dataset("{repo}", "{config}", split="{next(iter(of))}")'
        for config, of in layout.configs.items()
        if config != ROWS
    ]
    told = [f'`revision="{layout.tag}"` gives these rows whatever is pushed later.']
    for path in layout.others:
        folder, _, name = path.rpartition("/")
        if name in _EXACT:
            told.append(
                f"The exact arrays are in `{path}`; the rows show them. Networks learn from `{folder}`, once it is "
                f"downloaded: `datastill {_EXACT[name]} {folder} --test TEST --out student`."
            )
    return sections.section("Load it", sections.fenced("\n".join(lines), "python"), *told)


def _tables(layout: Layout) -> str:
    rows = [
        (f"`{config}`", _TABLES.get(config, "a table that the stage wrote beside its rows"), f"`{split}`", f"{n:,}",
         f"{layout.n_bytes[config][split] / 1024:,.0f} KiB")
        for config, of in layout.n_rows.items() for split, n in of.items()
    ]  # fmt: skip
    return sections.section(
        "What is in it", sections.table(("config", "holds", "split", "rows", "size"), rows, right=(3, 4))
    )


def _meanings(layout: Layout, columns: list[Column]) -> str:
    meanings = column_meanings(layout.record or "")
    classes = {one["name"]: _classes(one) for one in layout.features[ROWS]}
    rows = [(f"`{one.name}`", classes[one.name] or one.dtype, meanings.get(one.name, "")) for one in columns]
    return "Columns of `default`:\n\n" + sections.table(("column", "type", "meaning"), rows)


def _classes(feature: Mapping[str, Any]) -> str:
    """The names of a column of classes, as far as they are few; empty for another."""
    dtype = feature.get("dtype")
    names = (
        list(dtype["class_label"]["names"].values()) if isinstance(dtype, Mapping) and "class_label" in dtype else []
    )
    told = ", ".join(f"`{name}`" for name in names[:_MAX_CLASSES])
    return f"class: {told}{', …' if len(names) > _MAX_CLASSES else ''}" if names else ""


def _example(layout: Layout, files: list[Path]) -> str:
    """The texts of the first row; other columns are easier to read in the viewer."""
    if layout.record not in ("Trace", "Prompt", "Example", "Document") or not files:
        return ""
    row = next(islice(pl.scan_parquet(files[0]).head(1).collect().iter_rows(named=True), 1), None)
    texts = _texts(row or {})
    blocks = [f"{name}:\n\n{sections.fenced(_shortened(text), 'text')}" for name, text in texts]
    return sections.section("An example", *blocks)


def _texts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    said = [(f"`{one['role']}`", one.get("content") or "") for one in row.get("messages") or ()]
    named = [(f"`{name}`", row[name]) for name in ("text", "context", "completion", "reference") if row.get(name)]
    labels = [(one["name"], one["weight"]) for one in row.get("labels") or ()]
    told = [("`labels`", ", ".join(f"{name} {weight:g}" for name, weight in labels))] if labels else []
    return [*said, *named, *told]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"


def _statistics(columns: list[Column], *, with_values: bool) -> str:
    """Columns that hold something, and the values of those that have few, where they may be said."""
    rows, empty = [], []
    for one in columns:
        if one.high is None and not one.n_distinct:
            empty.append(f"`{one.name}`")
            continue
        values = ", ".join(f"`{value}` {n:,}" for value, n in one.values.items()) if with_values else ""
        figures = (f"{figure:,.4g}" if figure is not None else "" for figure in (one.low, one.mean, one.high))
        distinct = _counted(one.n_distinct, is_exact=one.is_exact) if one.n_distinct is not None else ""
        rows.append((f"`{one.name}`", f"{one.n_missing:,}", distinct, one.size, *figures, values))
    head = ("column", "missing", "different", "of its", "least", "mean", "most", "rows by value")
    told = f"No row has a value in {', '.join(empty)}." if empty else ""
    return sections.section("Statistics", sections.table(head, rows, right=(1, 2, 4, 5, 6)), told)


def _counted(n: int, *, is_exact: bool) -> str:
    """A number; an estimate to two digits."""
    return f"{n:,}" if is_exact else f"about {float(f'{n:.2g}'):,.0f}"


def _evaluated(history: History) -> str:
    """What networks that learned from a condensed set reach, where it was evaluated."""
    name = Path(history.published[0]).name
    rows: list[Sequence[str]] = []
    for step in history.evaluations:
        for regime, nets in _regimes(step, name).items():
            for net, of in nets.items():
                reached = sections.interval(of["accuracy"], sign="")
                above = [sections.interval(of.get(key)) for key in ("over_random", "over_best_coreset")]
                rows.append((f"`{step.stage}`", regime, f"`{net}`", reached, *above))
    head = ("by", "labels", "network", "accuracy", "over a random set", "over the best coreset")
    told = "Networks trained on it from scratch, on the test split of the data that it stands for; 95 % over seeds:"
    shown = sections.table(head, rows)
    return sections.section("What networks learn from it", told, shown) if rows else ""


def _regimes(step: Step, name: str) -> Mapping[str, Mapping[str, Any]]:
    found = step.manifest.get("figures", {}).get("condensed", {}).get(name, {})
    return found.get("regimes") or ({"": found["nets"]} if "nets" in found else {})


def _decontamination(checked: "Checked") -> str:
    gate = "decontamination"
    if gate in checked.passed:
        said = sections.line(checked.passed[gate])
        return sections.section("Evaluation sets", f"{said[:1].upper()}{said[1:].removesuffix('.')}.")
    told = "**It is not known whether rows of evaluation sets are in it**: the check failed and was overridden. "
    return sections.section("Evaluation sets", told + sections.line(checked.allowed.get(gate, "")))
