"""Croissant metadata of a dataset: its files, what their rows hold, who made it of what, and what to know before use.

Croissant 1.1 (http://mlcommons.org/croissant/1.1) with the properties of its extension for responsible AI
(http://mlcommons.org/croissant/RAI/1.0), and the lineage in the words of the W3C's PROV-O, as Croissant recommends.

The repository is one resource, as in the Hub's own metadata, and the Parquet files of a table are another: not each by
itself, so that this file stays as it is while rows come. The manifest of the data has the hashes. A loader that has the
folder reads it in the repository's place: `mlcroissant.Dataset(FILE, mapping={"repo": FOLDER})`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from datagen.publish.facts import limits, title_of
from datagen.publish.history import ASKING, WRITERS, History, Step
from datagen.publish.layout import ROWS, Layout
from datagen.publish.meanings import column_meanings
from datagen.publish.sections import steps_of, summary_of
from datagen.publish.statistics import Languages, count_columns, tell_languages

if TYPE_CHECKING:
    from datagen.publish.gates import Checked

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
_REPOSITORY = "repo"
_PARQUET = "application/x-parquet"
_PLAIN = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value",
)  # fmt: skip
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{name: f"cr:{name}" for name in _PLAIN},
}
_SPLITS = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}


def croissant_metadata(
    layout: Layout, history: History, checked: "Checked", url: str, *, published: str
) -> dict[str, Any]:
    """What croissant.json holds.

    Args:
        layout: the folder that is published; its Parquet files are read.
        history: of its directories.
        checked: what the gates said.
        url: of the dataset's page; files are below it at `resolve/TAG/`.
        published: day of the first push, as 2026-01-31.
    """
    files = {config: [one for of in splits.values() for one in of] for config, splits in layout.configs.items()}
    rows = [layout.folder / one for one in files[ROWS]]
    columns, languages = count_columns(rows), tell_languages(rows)
    owner, _, name = url.removesuffix("/").partition("/datasets/")[2].partition("/")
    fields: dict[str, Any] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": name,
        "alternateName": title_of(history),
        "description": _describe(layout, history, languages),
        "conformsTo": list(CONFORMS_TO),
        "license": checked.resolved.url or checked.resolved.name or "unknown",
        "url": url,
        "creator": {"@type": "sc:Organization", "name": owner, "url": f"{url.partition('/datasets/')[0]}/{owner}"},
        "datePublished": published,
        "version": f"1.0.0+{layout.tag}",
        "keywords": ["datastill", *(["synthetic"] if history.is_synthetic else [])],
        "inLanguage": list(languages.shares),
        "citeAs": _cite(name, owner, url, history, layout, published),
        "citation": [paper.bibtex for paper in history.papers],
        "isLiveDataset": False,
        **_responsible(layout, history, checked, limits(layout, history, checked, columns, languages)),
        **_provenance(history),
        "distribution": [
            _repository(url),
            *(_file_set(config, of.values()) for config, of in layout.patterns.items()),
        ],
        "recordSet": [_splits(layout), *(_record_set(config, of, layout) for config, of in files.items())],
    }
    return {name: value for name, value in fields.items() if value not in ("", [], {}, None)}


def _cite(name: str, owner: str, url: str, history: History, layout: Layout, published: str) -> str:
    lines = {
        "title": f"{{{title_of(history)}}}", "author": f"{{{owner}}}", "year": published[:4], "url": url,
        "note": f"Revision {layout.tag}",
    }  # fmt: skip
    fields = [f"  {key} = {{{value}}}," for key, value in lines.items()]
    return "\n".join([f"@misc{{{name},", *fields, "}"])


def _describe(layout: Layout, history: History, languages: Languages) -> str:
    rows = ", ".join(f"{n:,} in {split}" for split, n in layout.n_rows[ROWS].items())
    steps = " ".join(f"{step.stage}: {summary_of(step)}" for step in history.steps)
    spoken = f" Languages: {', '.join(languages.shares)}." if languages.shares else ""
    synthetic = " Synthetic data." if history.is_synthetic else ""
    return f"{title_of(history)}. {rows}.{synthetic}{spoken} Made by datastill in {steps_of(history)}. {steps}"


def _responsible(layout: Layout, history: History, checked: "Checked", known: Sequence[str]) -> dict[str, Any]:
    """Properties of Croissant's extension for responsible AI that manifests and checks can answer."""
    steps = history.steps
    asked = [one for step in history.behind_rows if step.stage in ASKING for one in step.models if one.role in WRITERS]
    writers = ", ".join(sorted({f"{one.name} at revision {one.revision}" for one in asked}))
    tools = sorted({f"{one.role} {one.name}" for one in history.models if one.role in ("judge", "embedder")})
    judged = [one for step in history.behind_rows for one in step.judged]
    extracted = history.extracted_from
    sources = [one.title or one.name for one in checked.resolved.sources if one.kind == "data"]
    how = f"Rows were written by {writers}." if writers else "Rows were read from files."
    if extracted:
        how += f" {extracted.name} was given its chat template alone, so that it gives back what it was trained on."
    made = any(step.writes_rows and step.stage not in ASKING for step in history.behind_rows)
    if made:
        how += " Training changed the rows until networks that learn from them behave as on the whole data."
    dropped = [f"{step.stage}: {n:,} rows, {reason}" for step in steps for reason, n in step.rejected.items()]
    kind = "Others: made by models" if history.is_synthetic else "Secondary Data analysis"
    use = {"Trace": "Fine tuning", "Prompt": "Fine tuning"}.get(layout.record or "", "Training")
    return {
        "rai:dataCollection": how,
        "rai:dataCollectionType": [kind],
        "rai:dataCollectionRawData": f"Made from {'; '.join(sources)}." if sources else "",
        "rai:dataCollectionMissingData": f"Dropped, with their reasons: {'; '.join(dropped)}." if dropped else "",
        "rai:dataPreprocessingProtocol": [f"{step.stage}: {summary_of(step)}" for step in steps],
        "rai:dataAnnotationProtocol": " ".join(
            f"{one.method} judged {one.n:,} rows and passed {one.n_passed:,}." for one in judged
        ),
        "rai:annotationsPerItem": "0 by people" if judged or layout.record == "Example" else "",
        "rai:machineAnnotationTools": [*tools, *(f"verifier {one.method}" for one in judged)],
        "rai:dataUseCases": [use],
        "rai:dataLimitations": list(known),
        "rai:dataBiases": [f"Errors, habits and biases of {writers} are in it."] if writers else [],
        "rai:personalSensitiveInformation": [
            text for of in (checked.passed, checked.allowed) for gate, text in of.items() if gate == "personal_data"
        ],
        "rai:dataReleaseMaintenancePlan": (
            f"Each revision is tagged by the start of the SHA-256 of its data; this one is {layout.tag}."
        ),
    }  # fmt: skip


def _provenance(history: History) -> dict[str, Any]:
    """The dataset, the activities that led to it and what each used, by hashes; agents are the models."""
    by_path = {step.path: step for step in history.steps}
    published = [by_path[path] for path in history.published]
    derived = {hash: _entity(hash, name) for step in published for name, hash, _ in _used(step, by_path)}
    return {
        "prov:wasGeneratedBy": [_activity(step, by_path) for step in published],
        "prov:wasDerivedFrom": list(derived.values()),
        "prov:wasAttributedTo": [
            {
                "@type": "prov:SoftwareAgent",
                "prov:label": f"{one.name} ({one.role})",
                "prov:atLocation": f"revision {one.revision}",
            }
            for one in history.models
        ],
    }


def _used(step: Step, by_path: Mapping[str, Step]) -> list[tuple[str, str, str | None]]:
    """Name, hash and, where it is a step's, path of what a step was made of."""
    inputs = [(name, hash, step.parents.get(name)) for name, hash in step.hashes.items()]
    return inputs + [(name, by_path[path].hash, path) for name, path in step.parents.items() if name not in step.hashes]


def _activity(step: Step, by_path: Mapping[str, Step]) -> dict[str, Any]:
    """A step, and within what it used the steps that made that."""
    used = [
        {**_entity(hash, name), **({"prov:wasGeneratedBy": _activity(by_path[path], by_path)} if path else {})}
        for name, hash, path in _used(step, by_path)
    ]
    method = f" by {step.method}" if step.method and step.method != step.stage else ""
    told = {
        "@type": "prov:Activity",
        "prov:label": f"{step.stage}{method}",
        "description": summary_of(step),
        "prov:used": used,
        "prov:wasAssociatedWith": [
            {"@type": "prov:SoftwareAgent", "prov:label": f"{one.name} ({one.role})"} for one in step.models
        ],
    }
    return {name: value for name, value in told.items() if value}


def _entity(hash: str, name: str) -> dict[str, Any]:
    return {"@type": "prov:Entity", "@id": f"urn:sha256:{hash}", "prov:label": name}


def _repository(url: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": _REPOSITORY,
        "name": _REPOSITORY,
        "description": "The repository on the Hub.",
        "contentUrl": url,
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",  # of a repository there is none
    }


def _file_set(config: str, patterns: Iterable[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{config}-files",
        "name": f"{config}-files",
        "description": f"Parquet files of {config}, all splits.",
        "containedIn": {"@id": _REPOSITORY},
        "encodingFormat": _PARQUET,
        "includes": list(patterns),
    }


def _splits(layout: Layout) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Splits of the rows.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [
            {"splits/name": split, "splits/url": _SPLITS.get(split, f"cr:{split}")} for split in layout.configs[ROWS]
        ],
    }


def _record_set(config: str, files: Sequence[str], layout: Layout) -> dict[str, Any]:
    schema = pl.scan_parquet(layout.folder / files[0]).collect_schema()
    meanings = column_meanings(layout.record or "") if config == ROWS else {}
    found = {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": "The rows." if config == ROWS else f"The table {config}, which the stage wrote beside its rows.",
        "key": {"@id": f"{config}/id"} if "id" in schema and config == ROWS else None,
        "field": [
            *([_split_field(config)] if config == ROWS and "split" not in schema else []),
            *(_field(config, name, dtype, meanings.get(name, "")) for name, dtype in schema.items()),
        ],
    }
    return {name: value for name, value in found.items() if value}


def _split_field(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{config}/split",
        "name": "split",
        "description": "The split that the row is in.",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": f"{config}-files"},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": r"(?:.*/)?(\w+?)(?:-\d+\.parquet)?$"},  # applied twice, so it takes its own result
        },
        "references": {"field": {"@id": "splits/name"}},
    }


def _field(config: str, name: str, dtype: pl.DataType, meaning: str) -> dict[str, Any]:
    """A column; a list has its shape, a list of structures their fields, an image the bytes of its file."""
    source: dict[str, Any] = {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": name}}
    found: dict[str, Any] = {
        "@type": "cr:Field", "@id": f"{config}/{name}", "name": name, "description": meaning
    }  # fmt: skip
    n_lists = 0
    while isinstance(dtype, pl.List):
        dtype, n_lists = dtype.inner, n_lists + 1  # pyright: ignore[reportAssignmentType] - an instance, as schemas hold
    if isinstance(dtype, pl.Struct):
        if [one.name for one in dtype.fields] == ["bytes", "path"]:
            found |= {"dataType": "sc:ImageObject", "source": source | {"transform": {"jsonPath": "bytes"}}}
        else:
            found["subField"] = [
                {
                    "@type": "cr:Field",
                    "@id": f"{config}/{name}/{one.name}",
                    "name": one.name,
                    "dataType": _data_type(one.dtype),  # pyright: ignore[reportArgumentType]
                    "source": source | {"transform": {"jsonPath": one.name}},
                }
                for one in dtype.fields
            ]
    else:
        found |= {"dataType": _data_type(dtype), "source": source}
    if n_lists:
        found |= {"isArray": True, "arrayShape": ",".join(["-1"] * n_lists)}
    return {key: value for key, value in found.items() if value}


def _data_type(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "sc:Boolean"
    if dtype.is_integer():
        return f"cr:Int{64 if dtype in (pl.Int64, pl.UInt32, pl.UInt64) else 32}"
    if dtype.is_float():
        return f"cr:Float{32 if dtype == pl.Float32 else 64}"
    return "sc:Text"
