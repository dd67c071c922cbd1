"""Oracles: an unbroken run, what a bare network with the stored weights says, a graph that is learned at sight."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from datagen.contracts.node_graphs import read_node_graph
from datagen.contracts.stage import check_sections, main
from tests.tiny_nodes import write_nodes
from tests.trained import contents, kill_after_a_checkpoint
from trainers.node_nets import open_student, open_teacher
from trainers.stages.train_node import STAGE

SETTINGS = ("layers=2", "hidden=16", "seeds=2", "epochs=40", "n_threads=1", "features=as_given")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def arguments(graph: Path, out: Path, *more: str) -> list[str]:
    return ["--graph", str(graph), "--out", str(out), "--metrics", f"{out}.json", "--set", *SETTINGS, *more]


def metrics_of(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.json").read_text())


@pytest.mark.parametrize("teacher", ["gcn", "gat", "sage"])
def test_networks_are_what_their_weights_say(tmp_path: Path, teacher: str):
    """Oracle: bare networks with the stored weights; groups that are joined among themselves are learned from that."""
    graph, out = write_nodes(tmp_path / "nodes.npz"), tmp_path / "out"
    assert main(STAGE, arguments(graph, out, f"teacher={teacher}")) == 0
    found, read = metrics_of(out), read_node_graph(graph)
    features, edges = torch.from_numpy(read.features.dense()), torch.from_numpy(read.both_ways())
    for name in ("teacher", "student", "baseline"):
        by_seed: list[float] = []
        for i in range(2):
            net = (
                open_teacher(teacher, 12, 3, layers=2, hidden=16, dropout=0.5)  # type: ignore[arg-type]  # one of three
                if name == "teacher"
                else open_student(12, 3, layers=2, hidden=16, dropout=0.5)
            )
            net.load_state_dict(load_file(out / f"{name}-{i}.safetensors"))
            logits = net.eval()(features, edges) if name == "teacher" else net.eval()(features)
            by_seed.append(float(np.mean(logits.argmax(1).numpy()[read.test] == read.labels[read.test])))
        assert found[name]["by_seed"] == pytest.approx(by_seed, abs=5e-5)
    assert found["teacher"]["mean"] > 0.8 and found["student"]["mean"] > 0.6
    over = np.subtract(found["student"]["by_seed"], found["baseline"]["by_seed"])
    assert found["student"]["over_baseline"]["by_seed"] == pytest.approx(over, abs=2e-4)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["student"] == found["student"] and manifest["record"] == "NodeStudents"
    assert (found["n_train"], found["n_validation"], found["n_test"]) == (12, 18, 42)
    assert not list((tmp_path / "home").glob("checkpoints/*/[!l]*")), "what was kept is gone"


def test_the_baseline_is_the_method_that_learns_labels_alone(tmp_path: Path):
    graph = write_nodes(tmp_path / "nodes.npz")
    assert main(STAGE, arguments(graph, tmp_path / "out", "method=labels_alone")) == 0
    found = metrics_of(tmp_path / "out")
    assert found["student"]["by_seed"] == found["baseline"]["by_seed"]
    one, two = (load_file(tmp_path / "out" / f"{name}-0.safetensors") for name in ("student", "baseline"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_killed_training_ends_where_an_unbroken_one_ends(tmp_path: Path):
    """Oracle: an unbroken run, byte for byte; the kill is after the first seed."""
    graph, whole, broken, home = (tmp_path / name for name in ("nodes.npz", "whole", "broken", "home"))
    write_nodes(graph)
    more = ("seeds=3", "epochs=60", "patience=60")
    assert main(STAGE, arguments(graph, whole, *more)) == 0
    command = [sys.executable, "-m", "trainers.stages.train_node", *arguments(graph, broken, *more)]
    kill_after_a_checkpoint(command, home, "checkpoints/*/seed-0.json")
    assert not broken.exists()
    assert main(STAGE, arguments(graph, broken, *more)) == 0
    assert contents(broken) == contents(whole)
    assert not list(home.glob("checkpoints/*/[!l]*"))


def test_two_processes_share_the_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one process, byte for byte."""
    graph = write_nodes(tmp_path / "nodes.npz")
    assert main(STAGE, arguments(graph, tmp_path / "one", "epochs=5")) == 0
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    assert main(STAGE, arguments(graph, tmp_path / "two", "epochs=5")) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code, one line, no output."""
    write_nodes(tmp_path / "nodes.npz")
    write_nodes(tmp_path / "unlabelled.npz", train=None)
    (tmp_path / "empty").mkdir()
    for settings, name, code, says in (
        (["method=glm"], "nodes.npz", 2, "no 'glm' in trainers.methods.graph; there are ff_g2m, glnn, labels_alone"),
        (["method=glnn", "temperature=2"], "nodes.npz", 2, "temperature: unknown parameter"),
        (["teacher=gin"], "nodes.npz", 2, "teacher"),
        (["label_weight=2"], "nodes.npz", 2, "label_weight"),
        (["teacher=gat", "hidden=10"], "nodes.npz", 2, "gat shares it among 4 heads"),
        (["name=cora"], "nodes.npz", 3, "leave the name out"),
        (["teacher_learning_rate=1e38"], "nodes.npz", 3, "teacher: diverged: its loss is"),
        ([], "unlabelled.npz", 3, "has no array train"),
        ([], "empty", 3, "holds no file ind.NAME.graph"),
        ([], "none.npz", 3, "no such file"),
    ):
        assert main(STAGE, arguments(tmp_path / name, tmp_path / "out", *settings)) == code
        errors = capsys.readouterr().err.strip().splitlines()
        assert says in errors[-1] and not [line for line in errors if "Traceback" in line]
        assert not (tmp_path / "out").exists()


def test_the_params_file_is_checked_without_torch():
    assert check_sections({"train_node": {"method": "glnn", "seeds": 0}}) == [
        "train_node.seeds: Input should be greater than or equal to 1 (got 0)"
    ]
