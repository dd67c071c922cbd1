"""A dataset in the Hub's form; oracle: `datasets` reads the files back, and the rows are those of the dataset."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from condense.condensed_graphs import as_condensed, write_condensed_graphs
from datagen.contracts.dataset import DatasetWriter, content_hash, iterate, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.graphs import GraphRow, graph_rows
from datagen.contracts.images import ImageRow, to_png
from datagen.contracts.records import Rejection
from datagen.publish.folder import lay_out
from datagen.publish.layout import Layout
from tests.datagen.publish.conftest import write_documents
from tests.tiny_graphs import graph_set
from tests.tiny_images import tiny_images


def laid_out(tmp_path: Path, **sources: Path) -> Layout:
    folder = tmp_path / "folder"
    folder.mkdir()
    return lay_out(sources, folder)


def read_back(layout: Layout, config: str, split: str = "train") -> datasets.Dataset:
    """By the pattern of the card, as the Hub's readers do."""
    pattern = str(layout.folder / layout.patterns[config][split])
    cache = str(layout.folder.parent / "cache")
    found = datasets.load_dataset("parquet", data_files={split: pattern}, split=split, cache_dir=cache)
    assert isinstance(found, datasets.Dataset)
    return found


def rows_of(path: Path, table: str = "part") -> list[dict[str, Any]]:
    return list(iterate(path, table))


STRING, INT32 = datasets.Value("string"), datasets.Value("int32")
MESSAGE = {name: STRING for name in ("role", "content", "name", "tool_calls", "tool_call_id")}


def test_traces_and_their_tables_come_back_with_their_types(pipeline: Path, tmp_path: Path):
    path = pipeline / "data" / "verified"
    layout = laid_out(tmp_path, train=path)
    assert layout.n_rows == {
        "default": {"train": 6}, "rejected": {"train": 6}, "rejections": {"train": 6}, "verdicts": {"train": 12}
    }  # fmt: skip
    for config, table in {"default": "part", "rejected": "rejected", "verdicts": "verdicts"}.items():
        assert read_back(layout, config).to_list() == rows_of(path, table)
    features = read_back(layout, "default").features
    assert features["messages"] == datasets.List(MESSAGE)
    assert features["constraints"] == datasets.List({"id": STRING, "kwargs": STRING})
    assert (features["completion"], features["sample_index"]) == (STRING, INT32)
    assert (features["score"], features["best"]) == (datasets.Value("float64"), datasets.Value("bool"))
    assert features["token_ids"] == datasets.List(INT32)
    assert features == datasets.Features._from_yaml_list([dict(one) for one in layout.features["default"]])
    assert layout.hash == content_hash(path) and layout.tag == layout.hash[:12]


def test_rows_of_many_files_keep_their_order(tmp_path: Path):
    """5000 rows are three shards here, and more than seventy files there."""
    path = write_documents(tmp_path / "data", [f"row-{i}" for i in range(5000)], rejected=0)
    layout = laid_out(tmp_path, train=path)
    files = [layout.folder / name for name in layout.configs["default"]["train"]]
    assert len(list(path.glob("part-*.parquet"))) == 3 and 64 <= len(files) <= 256
    assert sorted(files) == files == sorted(layout.folder.glob("data/*"))
    assert pl.read_parquet(files)["id"].to_list() == [f"row-{i}" for i in range(5000)]
    assert "rejections" not in layout.configs  # no row, no file
    assert max(pq.read_metadata(file).num_row_groups for file in files) == 1


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path):
    path = write_documents(tmp_path / "data", [f"row-{i}" for i in range(700)])
    trees: list[Mapping[str, bytes]] = []
    for i in range(2):
        (folder := tmp_path / f"f{i}").mkdir()
        lay_out({"train": path}, folder)
        trees.append({p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert trees[0] == trees[1]


def test_images_are_images_and_labels_have_names(tmp_path: Path):
    images = tiny_images(4)
    with DatasetWriter(tmp_path / "data", ImageRow, {"stage": "images", "classes": list(images.classes)}) as writer:
        for id, pixels, label in zip(images.ids, images.pixels, images.labels.tolist(), strict=True):
            writer.read()
            writer.write(ImageRow(id=id, image={"bytes": to_png(pixels), "path": None}, label=label))
        writer.attach("condensed.safetensors", b"arrays")
    layout = laid_out(tmp_path, train=tmp_path / "data")
    found = read_back(layout, "default")
    assert found.features["image"] == datasets.Image()
    assert found.features["label"] == datasets.ClassLabel(names=["corner 0", "corner 1", "corner 2"])
    assert found["label"][:] == images.labels.tolist()
    assert (np.stack([np.asarray(one) for one in found["image"]]) == images.pixels[..., 0]).all()
    assert (layout.folder / "datastill" / "train" / "condensed.safetensors").read_bytes() == b"arrays"


def test_graphs_and_condensed_graphs_are_lists_of_numbers(tmp_path: Path):
    graphs = graph_set([(3, [(0, 1), (1, 2)]), (1, [])], node_labels=[4, 5, 6, 7], edge_labels=[1, 2])
    path = tmp_path / "condensed"
    write_condensed_graphs(path, as_condensed(graphs), {"stage": "condense_graphs", "inputs": {}, "params": {}})
    layout = laid_out(tmp_path, train=path)
    found = read_back(layout, "default")
    assert found.to_list() == [
        {
            "id": graphs.ids[0], "label": 0, "n_nodes": 3, "sources": [0, 1, 1, 2], "targets": [1, 0, 2, 1],
            "node_labels": [[4], [5], [6]], "edge_labels": [[1], [1], [2], [2]], "node_features": [[], [], []],
        },
        {
            "id": graphs.ids[1], "label": 1, "n_nodes": 1, "sources": [], "targets": [],
            "node_labels": [[7]], "edge_labels": [], "node_features": [[]],
        },
    ]  # fmt: skip
    assert found.features["sources"] == datasets.List(datasets.Value("int64"))
    assert found.features["node_features"] == datasets.List(datasets.List(datasets.Value("float32")))
    assert "datastill/train/condensed_graphs.safetensors" in layout.others
    assert GraphRow.SCHEMA.keys() == found.features.keys()
    assert len(list(graph_rows(graphs))) == 2


def test_several_splits(tmp_path: Path):
    train = write_documents(tmp_path / "a", ["1", "2", "3"])
    test = write_documents(tmp_path / "b", ["4"], rejected=0)
    layout = laid_out(tmp_path, train=train, test=test)
    assert layout.n_rows["default"] == {"train": 3, "test": 1}
    assert layout.n_rows["rejections"] == {"train": 3}
    assert read_back(layout, "default", "test")["id"][:] == ["4"]
    assert layout.hash not in (content_hash(train), content_hash(test))
    assert layout.path == train


def test_splits_of_other_columns_and_what_holds_nothing_are_refused(pipeline: Path, tmp_path: Path):
    documents = write_documents(tmp_path / "a", ["1"])
    with pytest.raises(DataError, match="verified: default has other columns or types than in the first split"):
        laid_out(tmp_path, train=documents, test=pipeline / "data" / "verified")
    with DatasetWriter(tmp_path / "empty", Rejection, {"stage": "x"}):
        pass
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no row .*; nothing to publish"):
        lay_out({"train": tmp_path / "empty"}, tmp_path / "other")
    with pytest.raises(DataError, match="not a dataset directory"):
        lay_out({"train": tmp_path}, tmp_path / "other")


def test_the_manifest_goes_along_without_paths_of_this_machine(tmp_path: Path):
    params = {"student": str(tmp_path / "models" / "tiny"), "threshold": 0.8, "template": "a/b"}
    path = write_documents(tmp_path / "data", ["1"], manifest={"params": params})
    layout = laid_out(tmp_path, train=path)
    found = json.loads((layout.folder / "datastill" / "train" / "manifest.json").read_text())
    wanted = read_manifest(path)
    wanted["params"]["student"] = "tiny"
    assert found == wanted
    assert str(tmp_path) not in (layout.folder / "datastill" / "train" / "manifest.json").read_text()


def test_the_next_push_goes_on_with_the_size_of_files(tmp_path: Path):
    path = write_documents(tmp_path / "data", [f"row-{i}" for i in range(3000)], rejected=0)
    layout = laid_out(tmp_path, train=path)
    assert json.loads((layout.folder / "datastill" / "layout.json").read_text()) == {"default/train": 32}
    (tmp_path / "again").mkdir()
    lay_out({"train": path}, tmp_path / "again", {"default/train": 128})
    assert json.loads((tmp_path / "again" / "datastill" / "layout.json").read_text()) == {"default/train": 128}
