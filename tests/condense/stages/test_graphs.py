"""Oracles: graphs written by hand as folders, OGB's published counts, a part's own shares."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.stages.graphs import STAGE
from datagen.contracts.dataset import content_hash, read_manifest
from datagen.contracts.graphs import read_graphs
from datagen.contracts.stage import main
from tests.tiny_graphs import assert_same, graph_set, random_graphs, write_tu


def write(out: Path, *settings: str, raw: Path | None = None) -> int:
    given = [*(["--raw", str(raw)] if raw else []), *(["--set", *settings] if settings else [])]
    return main(STAGE, ["--out", str(out), "--metrics", f"{out}.json", *given])


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.json").read_text())


def test_molbace(tmp_path: Path, root: Path):
    out, raw = tmp_path / "out", root / "data" / "raw" / "molbace"
    assert write(out, "method=ogb_folder", "split=test", "licence=MIT", raw=raw) == 0
    manifest = read_manifest(out)
    assert (manifest["record"], manifest["licence"], manifest["source"]) == ("GraphRow", "MIT", "molbace")
    assert manifest["columns"] == {"node_labels": 9, "edge_labels": 3, "node_features": 0}
    assert manifest["inputs"] == {"raw": content_hash(raw)}
    found = read_graphs(out)
    whole = read_graphs(raw)
    assert_same(found, whole.take(np.array([whole.ids.index(id) for id in found.ids])))
    counts = dict(zip(("0", "1"), np.bincount(found.labels).tolist(), strict=True))
    assert metrics(out)["classes"] == counts and metrics(out)["rows"] == {"in": 152, "out": 152, "rejected": 0}


def test_a_tu_folder_by_default(tmp_path: Path):
    wanted = random_graphs(40, 0)
    raw = write_tu(tmp_path, wanted)
    assert write(tmp_path / "out", "split=validation", raw=raw) == 0
    found = read_graphs(tmp_path / "out")
    assert len(found) == 4 and np.bincount(found.labels).tolist() == [2, 2]
    numbers = np.array([int(id.removeprefix("TINY-")) - 1 for id in found.ids])
    np.testing.assert_array_equal(found.node_labels, wanted.take(numbers).node_labels)
    assert metrics(tmp_path / "out")["n_edges"] == found.edges.shape[1]


def test_degrees_as_labels_and_no_features(tmp_path: Path):
    graphs = graph_set([(3, [(0, 1), (1, 2)]), (1, [])] * 2, node_features=[[0.5], [1], [2], [3]] * 2)
    raw = write_tu(tmp_path, graphs)
    assert write(tmp_path / "out", "test_share=0", "validation_share=0", "node_labels=degree", raw=raw) == 0
    found = read_graphs(tmp_path / "out")
    assert found.node_labels[:4].tolist() == [[1], [2], [1], [0]] and found.node_features[:4].tolist()[0] == [0.5]
    settings = ["test_share=0", "validation_share=0", "node_features=none", "max_graphs=3"]
    assert write(tmp_path / "bare", *settings, raw=raw) == 0
    assert metrics(tmp_path / "bare")["columns"] == {"node_labels": 0, "edge_labels": 0, "node_features": 0}
    assert len(read_graphs(tmp_path / "bare")) == 3


def test_the_same_bytes_twice(tmp_path: Path):
    raw = write_tu(tmp_path, random_graphs(40, 0))
    assert write(tmp_path / "a", "seed=3", raw=raw) == write(tmp_path / "b", "seed=3", raw=raw) == 0
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (["method=hub"], 2, "method: no 'hub' in condense.graph_sources; there are ogb_folder, pyg, tu_folder"),
        (["method=ogb_folder", "split=dev"], 2, "split: Input should be 'train', 'validation', 'test' or 'all'"),
        (["method=pyg"], 2, "dataset: required, and not given"),
        ([], 2, "--raw: method tu_folder needs it"),
        (["max_graphs=0"], 2, "max_graphs: Input should be greater than or equal to 1"),
    ],
)
def test_params_that_cannot_be(
    tmp_path: Path, settings: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    assert write(tmp_path / "out", *settings) == code
    assert said in capsys.readouterr().err


def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert write(tmp_path / "out", raw=tmp_path / "none") == 3
    assert "none: no such folder" in capsys.readouterr().err
    raw = write_tu(tmp_path, random_graphs(40, 0))
    assert write(tmp_path / "out", "node_labels=degree", raw=raw) == 2
    assert "node_labels: degree, and nodes of TINY have labels" in capsys.readouterr().err
