"""Oracles: two versions of a package in two places of the path, of which the first counts."""

from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.stage import Run, main
from tests.labelled_graphs import labelled_graphs, write_graphs
from tests.tiny_nodes import write_nodes
from trainers.stages.train_graph import STAGE as TRAIN_GRAPH
from trainers.stages.train_node import STAGE as TRAIN_NODE
from trainers.students import train_once


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def upgraded(tmp_path: Path) -> Path:
    """A place with what an installed package says of itself, of another version than the one that is there."""
    stated = tmp_path / "site" / "torch_geometric-99.0.dist-info"
    stated.mkdir(parents=True)
    (stated / "METADATA").write_text("Metadata-Version: 2.1\nName: torch_geometric\nVersion: 99.0\n")
    return stated.parent


def places(home: Path) -> set[str]:
    """Of the checkpoints of every run so far."""
    return {folder.name for folder in home.glob("checkpoints/*")}


def fit(section: dict[str, Any], checkpoints: str, out: str) -> dict[str, Any]:
    Path(out).mkdir()
    return {"checkpoints": Path(checkpoints).name}


def test_checkpoints_are_those_of_the_versions_that_are_asked_for(
    tmp_path: Path, upgraded: Path, monkeypatch: pytest.MonkeyPatch
):
    """With another torch_geometric, a stage that names it starts anew, and one that does not goes on."""

    def place(*packages: str) -> str:
        run = Run(name="train", params=TRAIN_NODE.parse({}), inputs={}, out=tmp_path / "out")
        return train_once(run, f"{__name__}:fit", "fresh", packages)["checkpoints"]

    plain, graphs = place(), place("torch_geometric")
    assert plain != graphs == place("torch_geometric")
    monkeypatch.syspath_prepend(upgraded)
    assert place() == plain and place("torch_geometric") not in (plain, graphs)


def test_stages_of_graphs_start_anew_with_another_torch_geometric(
    tmp_path: Path, upgraded: Path, monkeypatch: pytest.MonkeyPatch
):
    write_nodes(tmp_path / "nodes.npz")
    write_graphs(tmp_path / "graphs", labelled_graphs(8))
    write_graphs(tmp_path / "test", labelled_graphs(8, seed=1))
    graphs = ["--graphs", str(tmp_path / "graphs"), "--test", str(tmp_path / "test")]
    few = ["--set", "layers=2", "hidden=8", "seeds=1", "epochs=1", "n_threads=1"]
    commands = [
        (TRAIN_NODE, ["--graph", str(tmp_path / "nodes.npz"), "--out", str(tmp_path / "nodes"), *few]),
        (TRAIN_GRAPH, [*graphs, "--out", str(tmp_path / "students"), *few, "net=gin"]),
    ]

    def n_places() -> list[int]:
        """After each stage."""
        counts: list[int] = []
        for stage, arguments in commands:
            assert main(stage, [*arguments, "--metrics", str(tmp_path / f"{stage.name}.json")]) == 0
            counts.append(len(places(tmp_path / "home")))
        return counts

    assert n_places() == [1, 2]
    assert n_places() == [2, 2], "the same versions, the same place"
    monkeypatch.syspath_prepend(upgraded)
    assert n_places() == [3, 4]
