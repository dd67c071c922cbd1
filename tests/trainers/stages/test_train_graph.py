"""Oracles: an unbroken run, what a bare network with the stored weights says, a problem that is learned at sight."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from condense.condensed_graphs import write_condensed_graphs
from datagen.contracts.dataset import content_hash
from datagen.contracts.graphs import GraphSet
from datagen.contracts.stage import check_sections, main
from tests.labelled_graphs import computation_trees, labelled_graphs, write_graphs
from tests.trained import contents, kill_after_a_checkpoint
from trainers.graph_batches import tensors_of
from trainers.graph_nets.opening import Columns, open_graph_net
from trainers.graph_steps import Network
from trainers.stages.train_graph import STAGE

SETTINGS = ("net=gin", "hidden=16", "layers=2", "dropout=0.1", "seeds=3", "epochs=12", "batch_size=16", "n_threads=1",
            "learning_rate=0.01")  # fmt: skip


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the datasets `train` and `test`, and `trees`, which is condensed."""
    write_graphs(tmp_path / "train", labelled_graphs(40))
    write_graphs(tmp_path / "test", labelled_graphs(30, seed=1))
    trees = computation_trees(labelled_graphs(6), 2, degrees=True)
    write_condensed_graphs(tmp_path / "trees", replace(trees, weights=np.arange(1, 7, dtype=np.float32)), {})
    return tmp_path


def arguments(files: Path, out: Path, *more: str, graphs: str = "train", test: str = "test") -> list[str]:
    inputs = ["--graphs", str(files / graphs), "--test", str(files / test)]
    return [*inputs, "--out", str(out), "--metrics", f"{out}.json", "--set", *SETTINGS, *more]


def metrics_of(out: Path) -> dict[str, Any]:
    return json.loads(Path(f"{out}.json").read_text())


def scores(out: Path, student: int, test: GraphSet) -> np.ndarray:
    """(G,) the second logit less the first, of a network with the weights of the folder."""
    manifest = json.loads((out / "manifest.json").read_text())
    network = Network(hidden=16, layers=2, dropout=0.1)
    net = open_graph_net("gin", Columns(**manifest["columns"]), 2, network, seed=99)
    net.load_state_dict(load_file(out / f"student-{student}.safetensors"))
    with torch.no_grad():
        logits = net.eval()(tensors_of(test).all()).double().numpy()
    return logits[:, 1] - logits[:, 0]


def test_students_are_what_their_weights_say(files: Path):
    """Oracle: torch and scikit-learn alone, from the folder's files; most of a learnable problem is learned."""
    out = files / "students"
    assert main(STAGE, arguments(files, out)) == 0
    found, test = metrics_of(out), labelled_graphs(30, seed=1)
    said = [scores(out, i, test) for i in range(3)]
    accuracies = [float(np.mean((one > 0) == test.labels)) for one in said]
    assert found["accuracy"]["by_seed"] == pytest.approx(accuracies, abs=5e-5) and min(accuracies) > 0.9
    assert found["auc"]["by_seed"] == pytest.approx([roc_auc_score(test.labels, one) for one in said], abs=5e-5)
    for measure in ("accuracy", "auc"):
        values = found[measure]["by_seed"]
        assert found[measure]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
        assert found[measure]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    assert (found["n_graphs"], found["n_test_graphs"], found["n_steps"]) == (40, 30, 36)
    assert not any(found["unseen_labels"].values())
    assert not list((files / "home").glob("checkpoints/*/[!l]*")), "what was kept is gone"


def test_a_condensed_set_is_learned_from_its_roots_by_weight(files: Path):
    """Weights tell more of a problem than none where a wrong graph weighs little; degrees are the set's."""
    trees = computation_trees(labelled_graphs(20), 2, degrees=True)
    wrong = np.concatenate([trees.graphs.labels[:10], 1 - trees.graphs.labels[10:]])
    weights = np.array([100.0] * 10 + [1.0] * 10, dtype=np.float32)
    made = replace(trees, graphs=replace(trees.graphs, labels=wrong), weights=weights)
    write_condensed_graphs(files / "made", made, {})
    found: dict[str, float] = {}
    for weighting in ("weight", "sample", "none"):
        out = files / weighting
        more = (f"weighting={weighting}", "net=gcn", "epochs=40", "seeds=2")
        assert main(STAGE, arguments(files, out, *more, graphs="made")) == 0
        assert (metrics_of(out)["n_graphs"], metrics_of(out)["weighting"]) == (20, weighting)
        found[weighting] = metrics_of(out)["auc"]["mean"]
    assert found["weight"] > 0.9 > found["none"] and found["sample"] > found["none"]


def test_labels_that_were_never_learned_from_are_zero_and_counted(files: Path, caplog: pytest.LogCaptureFixture):
    """Oracle: the same test graphs with another label that is as new; logits do not tell them apart."""
    graphs = labelled_graphs(30, seed=1)
    for name, new in (("far", 9), ("farther", 4)):
        labels = graphs.node_labels.copy()
        labels[::3, 0] = new
        write_graphs(files / name, replace(graphs, node_labels=labels))
        assert main(STAGE, arguments(files, files / f"of-{name}", "epochs=2", test=name)) == 0
    far, farther = metrics_of(files / "of-far"), metrics_of(files / "of-farther")
    n_new = len(range(0, graphs.n_nodes, 3))
    assert far["unseen_labels"] == {"node_values": 1, "nodes": n_new, "edge_values": 0, "edges": 0}
    assert far["auc"] == farther["auc"] and far["accuracy"] == farther["accuracy"]
    assert "labels that no training graph has" in caplog.text


def test_one_class_in_the_test_has_no_area(files: Path):
    graphs = labelled_graphs(8, seed=1)
    write_graphs(files / "ones", graphs.take(np.flatnonzero(graphs.labels == 1)))
    assert main(STAGE, arguments(files, files / "out", "epochs=1", "seeds=1", test="ones")) == 0
    found = metrics_of(files / "out")
    assert "auc" not in found and found["accuracy"]["std"] is None


def test_killed_training_ends_where_an_unbroken_one_ends(files: Path):
    """Oracle: an unbroken run, byte for byte; the kill is in the second student or after it."""
    whole, broken, home = files / "whole", files / "broken", files / "home"
    more = ("epochs=25",)
    assert main(STAGE, arguments(files, whole, *more)) == 0
    command = [sys.executable, "-m", "trainers.stages.train_graph", *arguments(files, broken, *more)]
    kill_after_a_checkpoint(command, home, "checkpoints/*/of-1/step-*")
    assert not broken.exists() and list(home.glob("checkpoints/*/student-0.safetensors"))
    assert main(STAGE, arguments(files, broken, *more)) == 0
    assert contents(broken) == contents(whole)
    assert not list(home.glob("checkpoints/*/[!l]*"))


def test_what_cannot_be_done_is_said_in_one_line(files: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code, one line, no output."""
    test = labelled_graphs(6, seed=1)
    write_graphs(files / "renamed", replace(test, classes=["a", "b"]))
    write_graphs(files / "narrow", replace(test, node_labels=test.node_labels[:, :1]))
    for settings, name, code, says in (
        (["net=transformer"], "test", 2, "no 'transformer' in trainers.graph_nets; there are gat, gcn, gin, sage"),
        (["net=gat", "hidden=18"], "test", 2, "gat has 4 heads"),
        (["learning_rate=0"], "test", 2, "learning_rate"),
        ([], "renamed", 3, "its classes are a, b, those of the training graphs no, yes"),
        ([], "narrow", 3, "has 1 columns of node_labels, the training graphs 2"),
        ([], "none", 3, "no such file"),
        (["learning_rate=1e30", "norm=none", "epochs=5"], "test", 3, "diverged: its loss is"),
    ):
        assert main(STAGE, arguments(files, files / "out", *settings, test=name)) == code
        errors = capsys.readouterr().err.strip().splitlines()
        assert says in errors[-1] and not [line for line in errors if "Traceback" in line]
        assert not (files / "out").exists()


@pytest.mark.parametrize("graphs", ["test", "made of the test"])
def test_nobody_is_judged_on_what_was_learned(files: Path, graphs: str, capsys: pytest.CaptureFixture[str]):
    trees = computation_trees(labelled_graphs(6), 2, degrees=True)
    write_condensed_graphs(files / "made of the test", trees, {"inputs": {"graphs": content_hash(files / "test")}})
    assert main(STAGE, arguments(files, files / "out", graphs=graphs)) == 3
    assert "the training graphs are these, or were made of them; judge students on others" in capsys.readouterr().err


def test_trees_must_be_as_deep_as_the_network(files: Path, capsys: pytest.CaptureFixture[str]):
    trees = computation_trees(labelled_graphs(6), 1, degrees=True)
    write_condensed_graphs(files / "shallow", trees, {"params": {"layers": 1}})
    assert main(STAGE, arguments(files, files / "out", graphs="shallow")) == 3
    assert "its trees are 1 deep, and the network has 2 layers; set layers=1" in capsys.readouterr().err
    assert main(STAGE, arguments(files, files / "out", "layers=1", "seeds=1", "epochs=1", graphs="shallow")) == 0


def test_a_set_without_degrees_is_said_to_be_inexact_for_gcn(files: Path, caplog: pytest.LogCaptureFixture):
    write_condensed_graphs(files / "bare", computation_trees(labelled_graphs(6), 2, degrees=False), {})
    for graphs, said in (("bare", True), ("trees", False), ("train", False)):
        caplog.clear()
        assert (
            main(STAGE, arguments(files, files / f"of {graphs}", "net=gcn", "seeds=1", "epochs=1", graphs=graphs)) == 0
        )
        assert ("states no degrees" in caplog.text) == said


def test_students_in_two_processes_on_graphs_without_edge_labels(files: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing waits for a gradient that does not come."""
    bare = labelled_graphs(12)
    write_graphs(files / "no edge labels", replace(bare, edge_labels=bare.edge_labels[:, :0]))
    other = labelled_graphs(30, seed=1)
    write_graphs(files / "others", replace(other, edge_labels=other.edge_labels[:, :0]))
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    out = files / "out"
    given = arguments(files, out, "seeds=1", "epochs=2", "batch_size=4", graphs="no edge labels", test="others")
    assert main(STAGE, given) == 0
    assert metrics_of(out)["n_steps"] == 6


def test_the_params_file_is_checked_without_torch():
    assert check_sections({"train_graph": {"net": "gin", "seeds": 0}}) == [
        "train_graph.seeds: Input should be greater than or equal to 1 (got 0)"
    ]


def with_validation(files: Path, out: Path, *more: str) -> list[str]:
    write_graphs(files / "validation", labelled_graphs(24, seed=2))
    return ["--validation", str(files / "validation"), *arguments(files, out, *more)]


def test_the_best_epoch_is_the_one_that_shorter_trainings_find(files: Path):
    """Oracle: at a constant rate the weights after epoch e are those that a training of e epochs ends with."""
    held = labelled_graphs(24, seed=2)
    few = ("seeds=1", "learning_rate=0.003", "schedule=constant", "warmup_share=0")
    reached: list[float] = []
    for epochs in range(1, 7):
        out = files / f"after {epochs}"
        assert main(STAGE, arguments(files, out, *few, f"epochs={epochs}")) == 0
        reached.append(roc_auc_score(held.labels, scores(out, 0, held)))
    out = files / "best"
    assert main(STAGE, with_validation(files, out, *few, "epochs=6", "keep=best")) == 0
    epoch = reached.index(max(reached)) + 1
    assert epoch < 6
    assert metrics_of(out)["kept"] == [{"epoch": epoch, "reached": round(max(reached), 4)}]
    expected = load_file(files / f"after {epoch}" / "student-0.safetensors")
    found = load_file(out / "student-0.safetensors")
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def test_what_an_epoch_cannot_be_chosen_by_is_refused(files: Path, capsys: pytest.CaptureFixture[str]):
    out = files / "out"
    assert main(STAGE, arguments(files, out, "keep=best")) == 2
    assert main(STAGE, with_validation(files, out)) == 2
    assert capsys.readouterr().err.count("keep=best chooses an epoch by --validation, keep=last by none") == 2
    for same in ("train", "test"):
        assert main(STAGE, ["--validation", str(files / same), *arguments(files, out, "keep=best")]) == 3
        assert "the training graphs, what they were made of, or the test; choose by others" in capsys.readouterr().err
