"""Oracles: supports counted by hand on stars and paths, bytes counted anew, `open_graphs` as a reader."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.condensed_graphs import count_bytes, paper_bytes, read_condensed_graphs
from condense.pyg import open_graphs
from condense.stages.condense_graphs import STAGE
from datagen.contracts.cluster import ADDRESS
from datagen.contracts.dataset import content_hash, read_manifest
from datagen.contracts.graphs import GraphSet, read_graphs
from datagen.contracts.stage import main
from tests.dask_processes import a_cluster
from tests.labelled_graphs import write_graphs
from tests.tiny_graphs import assert_same, graph_set, random_graphs, write_tu

STAR, PATH = (4, [(0, 1), (0, 2), (0, 3)]), (3, [(0, 1), (1, 2)])
# class 0: three stars and a path; class 1: four paths
GRAPHS = graph_set(
    [STAR, STAR, STAR, PATH, PATH, PATH, PATH, PATH], node_labels=[0] * (3 * 4 + 5 * 3), labels=[0] * 4 + [1] * 4
)


def condense(graphs: Path, out: Path, *settings: str) -> int:
    given = ["--set", *settings] if settings else []
    return main(STAGE, ["--graphs", str(graphs), "--out", str(out), "--metrics", f"{out}.json", *given])


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.json").read_text())


def test_mirage_by_hand(tmp_path: Path):
    """Depth 1: a star's middle has 3 children, a path's 2, and their leaves are the same tree.

    So class 0 has the sets {leaf} of support 4, {middle} and {leaf, middle} of 3, and class 1 three of 4.
    """
    out = tmp_path / "out"
    assert condense(write_tu(tmp_path, GRAPHS), out, "layers=1", "thresholds=[3,4]") == 0
    made, manifest = read_condensed_graphs(out), read_manifest(out)
    assert metrics(out)["n_patterns"] == manifest["n_patterns"] == {"0": 3, "1": 3}
    weights = made.weights.tolist()
    assert sorted(weights[:3]) == [3, 3, 4] and weights[3:] == [4, 4, 4]
    sizes = np.diff(made.graphs.node_offsets)
    assert sorted(sizes[:3].tolist()) == [2, 4, 6] and sorted(sizes[3:].tolist()) == [2, 3, 5]
    assert [int(made.is_root[made.graphs.graph_of_node == g].sum()) for g in range(6)].count(2) == 2
    size = count_bytes(made)
    assert (
        manifest["size_bytes"] == metrics(out)["size_bytes"] == size["total"] == sum(metrics(out)["bytes"].values()) / 2
    )
    assert manifest["raw_bytes"] == count_bytes(GRAPHS)["total"] and manifest["paper_bytes"] == paper_bytes(made)
    assert len(open_graphs(out)) == 6


def test_a_budget_is_kept_and_the_default_is_mirage(tmp_path: Path):
    raw = write_tu(tmp_path, random_graphs(40, 0))
    assert condense(raw, tmp_path / "out", "layers=2", "byte_budget=400") == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["method"] == "mirage" and 0 < manifest["size_bytes"] <= 400 < manifest["raw_bytes"]
    assert manifest["params"]["layers"] == 2 and min(manifest["n_patterns"].values()) >= 1


def test_a_dataset_is_read_by_shards_to_the_same_set(tmp_path: Path):
    graphs = random_graphs(40, 0)
    folder, dataset = write_tu(tmp_path, graphs), write_graphs(tmp_path / "dataset", graphs)
    for name, path in {"a": folder, "b": dataset}.items():
        assert condense(path, tmp_path / name, "layers=1", "thresholds=[3,3]") == 0
    a, b = (read_condensed_graphs(tmp_path / name) for name in "ab")
    np.testing.assert_array_equal(a.graphs.edges, b.graphs.edges)
    np.testing.assert_array_equal(a.weights, b.weights)
    raw = [read_manifest(tmp_path / name)["raw_bytes"] for name in "ab"]
    assert raw == [count_bytes(graphs)["total"]] * 2


def test_workers_elsewhere_read_a_dataset_that_is_given_relative_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]
):
    """The bytes of the set, manifest included, are those of one process."""
    needs(module="distributed", remedy="pip install 'datastill[scale]'")
    monkeypatch.delenv(ADDRESS, raising=False)
    write_graphs(tmp_path / "dataset", random_graphs(40, 0))
    with a_cluster(tmp_path, 1) as cluster:
        monkeypatch.chdir(tmp_path)
        assert condense(Path("dataset"), Path("here"), "layers=1", "thresholds=[3,3]") == 0
        monkeypatch.setenv(ADDRESS, cluster.address)
        assert condense(Path("dataset"), Path("there"), "layers=1", "thresholds=[3,3]") == 0
    assert content_hash(tmp_path / "here") == content_hash(tmp_path / "there")


@pytest.mark.parametrize("method", ["at_random", "herding", "k_means"])
def test_a_coreset_is_real_graphs_within_the_budget(tmp_path: Path, method: str):
    graphs = random_graphs(40, 0)
    path = write_graphs(tmp_path / "graphs", graphs)
    assert condense(path, tmp_path / "out", f"method={method}", "byte_budget=300", "layers=2") == 0
    made, said = read_condensed_graphs(tmp_path / "out"), metrics(tmp_path / "out")
    numbers = np.array([int(id.removeprefix("tiny-")) for id in made.graphs.ids])
    assert_same(made.graphs, graphs.take(numbers))
    assert said["size_bytes"] == count_bytes(graphs.take(numbers))["total"] <= 300
    assert said["graphs_are"] == "real" and said["n_graphs"] == sum(said["n_patterns"].values()) == len(numbers)
    assert made.is_root.all() and (made.weights == 1).all()


def test_the_same_bytes_twice(tmp_path: Path):
    path = write_graphs(tmp_path / "graphs", random_graphs(40, 0))
    for name in ("a", "b"):
        assert condense(path, tmp_path / name, "method=k_means", "byte_budget=300") == 0
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


def with_features() -> GraphSet:
    """Nodes of class 0 are near 0, those of class 1 near 10; a hundredth of the spread is noise."""
    values = np.where(GRAPHS.labels[GRAPHS.graph_of_node] == 0, 0, 10) + np.tile([-0.1, 0, 0.1], 9)
    return graph_set(
        [STAR, STAR, STAR, PATH, PATH, PATH, PATH, PATH],
        node_labels=[0] * 27,
        node_features=values[:, None].tolist(),
        labels=GRAPHS.labels.tolist(),
    )


@pytest.mark.parametrize("settings", [["thresholds=[3,4]"], ["byte_budget=120"], ["method=herding", "byte_budget=120"]])
def test_continuous_features_by_codes(tmp_path: Path, settings: list[str]):
    """Two codes: what is left of the variance is that of the noise, 0.02 / 3, in that of the whole."""
    graphs = with_features()
    path = write_graphs(tmp_path / "graphs", graphs)
    assert condense(path, tmp_path / "out", "layers=1", "quantise=2", *settings) == 0
    said, made = metrics(tmp_path / "out"), read_condensed_graphs(tmp_path / "out")
    values = graphs.node_features[:, 0].astype(float)
    assert said["n_codes"] == 2
    inner = sum(((part - part.mean()) ** 2).sum() for part in (values[values < 5], values[values > 5]))
    assert said["quantisation_loss"] == pytest.approx(inner / ((values - values.mean()) ** 2).sum(), rel=1e-4)
    assert made.codebook is not None and np.abs(made.codebook.ravel() - [0, 10]).max() < 0.05
    assert made.graphs.columns == {"node_labels": 2, "edge_labels": 0, "node_features": 0}
    owners = made.graphs.graph_of_node
    assert (made.graphs.node_labels[:, 1] == made.graphs.labels[owners]).all()
    assert said["bytes"]["codebook"] == 8 and said["size_bytes"] <= (120 if "byte" in settings[-1] else 10**9)


def test_features_that_are_left_out(tmp_path: Path):
    path = write_graphs(tmp_path / "graphs", with_features())
    assert condense(path, tmp_path / "out", "layers=1", "thresholds=[3,4]", "node_features=none") == 0
    assert condense(write_graphs(tmp_path / "bare", GRAPHS), tmp_path / "plain", "layers=1", "thresholds=[3,4]") == 0
    assert_same(read_graphs(tmp_path / "out"), read_graphs(tmp_path / "plain"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["method=sparse"], "method: no 'sparse'; there are at_random, forgetting, herding, k_center, k_means, mirage"),
        (["method=herding"], "byte_budget: required, and not given; herding takes as many graphs as it pays for"),
        ([], "thresholds and byte_budget: give one of the two, not neither"),
        (["byte_budget=0"], "byte_budget: Input should be greater than or equal to 1"),
        (["layers=-1", "byte_budget=99"], "layers: Input should be greater than or equal to 0"),
        (["thresholds=[3,4]"], "nodes of GRAPHS have 1 continuous features, and mirage reads labels; set quantise"),
        (["method=forgetting", "byte_budget=400"], "forgetting"),
        (["method=herding", "byte_budget=20"], "byte_budget: a graph of each class takes"),
        (["quantise=2", "node_features=none", "byte_budget=99"], "quantise: there is nothing to quantise"),
        (["quantise=2", "byte_budget=8"], "byte_budget: the codebook alone takes 8 bytes (got 8)"),
    ],
)
def test_params_that_cannot_be(tmp_path: Path, settings: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    path = write_graphs(tmp_path / "graphs", with_features())
    assert condense(path, tmp_path / "out", *settings) == 2
    assert said.replace("GRAPHS", str(path)) in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_graphs_that_cannot_be_condensed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one_class = graph_set([PATH, PATH], node_labels=[0] * 6, labels=[1, 1])
    for settings in (["byte_budget=99"], ["method=at_random", "byte_budget=99"]):
        assert condense(write_graphs(tmp_path / "one", one_class), tmp_path / "out", *settings) == 3
        assert "one: class 'class 0' has no graph; condense a part that has every class" in capsys.readouterr().err
    alone = graph_set([PATH], node_labels=[0] * 3, labels=[0])
    assert condense(write_graphs(tmp_path / "alone", alone), tmp_path / "out", "byte_budget=99") == 3
    assert "alone: has 1 classes; a student needs two or more" in capsys.readouterr().err
    bare = graph_set([PATH, PATH])
    assert condense(write_graphs(tmp_path / "bare", bare), tmp_path / "out", "quantise=2", "byte_budget=99") == 2
    assert "quantise: nodes of" in capsys.readouterr().err
    assert condense(tmp_path / "bare", tmp_path / "out", "byte_budget=99") == 3
    assert "nodes have no discrete labels" in capsys.readouterr().err
