"""Croissant metadata; oracles: mlcroissant validates it and reads the rows, rdflib reads its lineage."""

import json
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import polars as pl
import rdflib

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.graphs import GraphRow, graph_rows
from datagen.contracts.images import ImageRow, to_png
from datagen.publish.croissant import croissant_metadata
from datagen.publish.folder import lay_out
from datagen.publish.history import read_history
from datagen.publish.layout import Layout
from tests.datagen.publish.projects import URL, checked
from tests.tiny_graphs import graph_set
from tests.tiny_images import tiny_images

PROV = rdflib.Namespace("http://www.w3.org/ns/prov#")


def described(folder: Path, *paths: Path, **allowed: str) -> tuple[Layout, dict[str, Any]]:
    """The folder in the Hub's form, with its metadata."""
    folder.mkdir()
    splits: dict[str, Path] = dict(zip(("train", "test"), paths, strict=False))
    layout = lay_out(splits, folder)
    found = croissant_metadata(layout, read_history(*paths), checked(**allowed), URL, published="2026-01-31")
    (folder / "croissant.json").write_text(json.dumps(found))
    return layout, found


def loaded(layout: Layout) -> mlcroissant.Dataset:
    """As somebody reads it who has the folder."""
    return mlcroissant.Dataset(layout.folder / "croissant.json", mapping={"repo": str(layout.folder)})


def test_mlcroissant_finds_nothing_wrong_or_missing(project: Path, tmp_path: Path):
    layout, _ = described(tmp_path / "folder", project / "data" / "verified")
    issues = loaded(layout).metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    metadata = loaded(layout).metadata
    assert metadata.ctx.is_v1_1()
    assert metadata.name == "colours" and metadata.data_limitations and metadata.data_collection


def test_mlcroissant_reads_the_rows_of_every_table_and_their_splits(project: Path, tmp_path: Path):
    verified, traces = project / "data" / "verified", project / "data" / "traces"
    layout, _ = described(tmp_path / "folder", verified, traces)
    rows = list(loaded(layout).records("default"))
    wanted = {
        split: pl.read_parquet(path / "part-*.parquet") for split, path in (("train", verified), ("test", traces))
    }
    for split, frame in wanted.items():
        found = [row for row in rows if row["default/split"].decode() == split]
        assert [row["default/completion"].decode() for row in found] == frame["completion"].to_list()
        assert [row["default/sample_index"] for row in found] == frame["sample_index"].to_list()
        said = [row["default/messages"][0]["default/messages/content"].decode() for row in found]
        assert said == [messages[0]["content"] for messages in frame["messages"].to_list()]
    assert len(list(loaded(layout).records("verdicts"))) == 20


def test_mlcroissant_reads_images(tmp_path: Path):
    images = tiny_images(2)
    manifest = {"stage": "images", "method": "digits", "params": {}, "inputs": {}, "classes": list(images.classes)}
    with DatasetWriter(tmp_path / "images", ImageRow, manifest) as writer:
        for id, pixels, label in zip(images.ids, images.pixels, images.labels.tolist(), strict=True):
            writer.read()
            writer.write(ImageRow(id=id, image={"bytes": to_png(pixels), "path": None}, label=label))
    layout, _ = described(tmp_path / "folder", tmp_path / "images")
    rows = list(loaded(layout).records("default"))
    assert [row["default/label"] for row in rows] == images.labels.tolist()
    assert (np.stack([np.asarray(row["default/image"]) for row in rows]) == images.pixels[..., 0]).all()


def test_every_file_is_in_the_set_of_its_table(project: Path, tmp_path: Path):
    layout, found = described(tmp_path / "folder", project / "data" / "verified", project / "data" / "traces")
    sets = {one["@id"]: one["includes"] for one in found["distribution"] if one["@type"] == "cr:FileSet"}
    matched = {
        name: {one for pattern in patterns for one in layout.folder.glob(pattern)} for name, patterns in sets.items()
    }
    assert set.union(*matched.values()) == set(layout.folder.rglob("*.parquet"))
    assert sum(map(len, matched.values())) == len(set.union(*matched.values()))
    assert {one.parent.name for one in matched["verdicts-files"]} == {"verdicts"}


def test_lineage_is_a_graph_from_the_dataset_to_the_raw_file(project: Path, tmp_path: Path):
    """As rdflib expands it, by hashes: verified is made of traces, those of prompts, those of the user's file."""
    layout, _ = described(tmp_path / "folder", project / "data" / "verified")
    graph = rdflib.Graph().parse(layout.folder / "croissant.json", format="json-ld")
    activities = {str(graph.value(one, PROV.label)): one for one in graph.objects(None, PROV.wasGeneratedBy)}
    assert set(activities) == {"verify by short_answer", "traces by n_samples", "prompts by user_rows"}
    activity = activities["prompts by user_rows"]
    raw = rdflib.URIRef(f"urn:sha256:{content_hash(project / 'raw' / 'questions.jsonl')}")
    assert (activity, PROV.used, raw) in graph
    traces = rdflib.URIRef(f"urn:sha256:{content_hash(project / 'data' / 'traces')}")
    assert set(graph.objects(None, PROV.wasDerivedFrom)) == {traces}
    agents = {str(graph.value(agent, PROV.label)) for agent in graph.objects(None, PROV.wasAttributedTo)}
    assert agents == {"scripted (teacher)"}


def test_what_to_know_before_use_is_said(project: Path, tmp_path: Path):
    said = "data/verified: an e-mail address in row q1"
    _, found = described(tmp_path / "folder", project / "data" / "verified", personal_data=said)
    rai = {name.partition(":")[2]: value for name, value in found.items() if name.startswith("rai:")}
    assert rai["dataCollection"].startswith("Rows were written by scripted at revision")
    assert rai["dataCollectionType"] == ["Others: made by models"] and "synthetic" in found["keywords"]
    assert rai["dataCollectionRawData"] == "Made from questions.jsonl."
    assert rai["personalSensitiveInformation"] == [said]
    assert rai["machineAnnotationTools"] == ["verifier short_answer"] and "20 rows" in rai["dataAnnotationProtocol"]
    assert any("personal_data" in one for one in rai["dataLimitations"])
    assert "wrong_answer" in rai["dataCollectionMissingData"]
    assert found["license"] == "https://creativecommons.org/licenses/by/4.0/" and found["datePublished"] == "2026-01-31"


def test_rows_from_a_file_are_not_said_to_be_synthetic(project: Path, tmp_path: Path):
    _, found = described(tmp_path / "folder", project / "data" / "prompts")
    assert "synthetic" not in found["keywords"] and found["rai:dataCollectionType"] == ["Secondary Data analysis"]
    assert "rai:dataBiases" not in found


def test_graphs_are_arrays_of_their_shape(tmp_path: Path):
    graphs = graph_set([(3, [(0, 1), (1, 2)]), (1, [])], node_labels=[4, 5, 6, 7])
    manifest = {"stage": "graphs", "method": "npz", "params": {}, "inputs": {}, "classes": ["a", "b"]}
    with DatasetWriter(tmp_path / "graphs", GraphRow, manifest) as writer:
        for row in graph_rows(graphs):
            writer.read()
            writer.write(row)
    layout, found = described(tmp_path / "folder", tmp_path / "graphs")
    (rows,) = [one for one in found["recordSet"] if one["@id"] == "default"]
    shapes = {one["name"]: one.get("arrayShape") for one in rows["field"]}
    assert (shapes["sources"], shapes["node_labels"], shapes["label"]) == ("-1", "-1,-1", None)
    rows = list(loaded(layout).records("default"))
    assert [[int(one) for one in row["default/sources"] or ()] for row in rows] == [[0, 1, 1, 2], []]
    assert [[int(n) for (n,) in row["default/node_labels"]] for row in rows] == [[4, 5, 6], [7]]
