"""Oracles: scipy's t over the rows of the dataset, bytes of stored sets, an unbroken run."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from condense.condensed_graphs import count_bytes, write_condensed_graphs
from datagen.contracts.dataset import content_hash, iterate, read_manifest
from datagen.contracts.stage import check_sections, main
from tests.labelled_graphs import computation_trees, labelled_graphs, write_graphs
from tests.trained import contents, kill_after_a_checkpoint
from trainers.stages.evaluate_graphs import STAGE

theirs: Any = stats  # its types leave out what its functions give
NETS = ("gin", "gcn")
SETTINGS = (f"nets=[{', '.join(NETS)}]", "learning_rates=[0.003, 0.03]", "seeds_for_rate=1", "seeds=5",
            "coresets=[at_random, k_means]", "multiples=[2]", "n_steps=5", "whole_steps=10", "hidden=8", "layers=2",
            "batch_size=16", "n_threads=1")  # fmt: skip


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Graphs, and condensed sets: `trees` of two training graphs, `wrong` the same with the labels exchanged."""
    for seed, name in enumerate(("train", "validation", "test")):
        write_graphs(tmp_path / name, labelled_graphs(16 if seed else 24, seed=seed, name=name))
    trees = computation_trees(labelled_graphs(24).take(np.arange(2)), 2, degrees=True)
    wrong = replace(trees, graphs=replace(trees.graphs, labels=1 - trees.graphs.labels))
    of_train = {"inputs": {"graphs": content_hash(tmp_path / "train")}}
    write_condensed_graphs(tmp_path / "arms" / "trees", trees, of_train)
    write_condensed_graphs(tmp_path / "arms" / "wrong", wrong, {"inputs": {"graphs": "others"}})
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Callable[..., list[str]]:
    """Arguments to run the stage on the folder's arms; it writes `OUT` and `OUT.json`."""

    def arguments(out: str, *settings: str, run_metrics: Path | None = None, **files: str) -> list[str]:
        names = {"train": "train", "validation": "validation", "test": "test", "condensed": "arms", **files}
        inputs = [word for name, file in names.items() for word in (f"--{name}", str(folder / file))]
        more = ["--run-metrics", str(run_metrics)] if run_metrics else []
        written = ["--out", str(folder / out), "--metrics", str(folder / f"{out}.json")]
        return [*inputs, *more, *written, "--set", *SETTINGS, *settings]

    return arguments


def interval(values: Any) -> Any:
    mean, error = np.mean(values), theirs.sem(values)
    low, high = theirs.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    return pytest.approx({"mean": mean, "low": low, "high": high}, abs=1.01e-4)


def ends(one: dict[str, Any]) -> dict[str, float]:
    return {key: one[key] for key in ("mean", "low", "high")}


def test_one_protocol_for_all_arms(folder: Path, command: Callable[..., list[str]], caplog: pytest.LogCaptureFixture):
    """Every figure of the metrics from the dataset's rows, by scipy; sizes as they are stored.

    After 40 steps coresets order the test graphs well, and what learned from exchanged labels the other way round.
    """
    assert main(STAGE, command("out", "n_steps=40", "whole_steps=40")) == 0
    found = json.loads((folder / "out.json").read_text())
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in iterate(folder / "out"):
        assert row["id"] == f"{row['arm']}/{row['net']}/{row['seed']}" and row["seed"] == len(
            rows[row["arm"], row["net"]]
        )
        rows[row["arm"], row["net"]].append(row)
    assert all(len(one) == 5 for one in rows.values())
    assert found["rows"] == {"in": 5 * len(rows), "out": 5 * len(rows), "rejected": 0}
    auc = {place: [row["auc"] for row in one] for place, one in rows.items()}

    assert (found["measure"], found["chance"], found["n_nets"], found["n_seeds"]) == ("auc", 0.5, 2, 5)
    size = found["condensed"]["trees"]["bytes"]
    trees = computation_trees(labelled_graphs(24).take(np.arange(2)), 2, degrees=True)
    assert size == count_bytes(trees)["total"] and found["whole"]["bytes"] == count_bytes(labelled_graphs(24))["total"]
    rivals = [f"at_random-{size}", f"k_means-{size}"]
    assert set(rivals) <= found["coresets"].keys()
    entries = {"whole": found["whole"], **found["condensed"], **found["coresets"]}
    assert {(name, net) for name, entry in entries.items() for net in entry["nets"]} == rows.keys()
    for name, entry in entries.items():
        for net, one in entry["nets"].items():
            mine = rows[name, net]
            assert ends(one["auc"]) == interval(auc[name, net])
            assert ends(one["accuracy"]) == interval([row["accuracy"] for row in mine])
            assert one["auc"]["by_seed"] == pytest.approx(auc[name, net], abs=5.1e-5)
            assert {row["learning_rate"] for row in mine} == {one["learning_rate"]} and one["learning_rate"] in (
                0.003, 0.03
            )  # fmt: skip
            assert entry["n_graphs"] == pytest.approx(np.mean([row["n_graphs"] for row in mine]), abs=0.051)
            assert entry["bytes"] == pytest.approx(np.mean([row["bytes"] for row in mine]), abs=0.051)
            assert one["seconds"] > 0
            if entry in found["condensed"].values():
                best = max(rivals, key=lambda rival: np.mean(auc[rival, net]))
                assert one["best_coreset"] == best
                assert one["over_best_coreset"] == interval(np.subtract(auc[name, net], auc[best, net]))
                assert one["over_random"] == interval(np.subtract(auc[name, net], auc[rivals[0], net]))
                assert one["hard_label_recovery"] == interval(np.subtract(auc["whole", net], auc[name, net]))
    assert all(row["bytes"] <= size for rival in rivals for row in rows[rival, "gin"])
    assert found["condensed"]["wrong"]["standing"] == {"gin": "loses", "gcn": "loses"}
    assert found["condensed"]["trees"]["worth"]["verdict"].startswith("not known")
    assert 0 <= found["size_alone"] <= 1
    assert found["made_of_other_graphs"] == {"trees": False, "wrong": True}
    assert found["shared_graphs"] == {"train_and_validation": 0, "train_and_test": 0, "validation_and_test": 0}
    assert "wrong: its manifest does not say that it was made of" in caplog.text

    plotted = json.loads((folder / "out" / "scores.json").read_text())
    assert {(row["arm"], row["net"]) for row in plotted} == rows.keys()
    assert all(ends(row) == ends(entries[row["arm"]]["nets"][row["net"]]["auc"]) for row in plotted)
    stated = read_manifest(folder / "out")["figures"]
    assert "seconds" not in stated["whole"]["nets"]["gin"] and stated["whole"]["bytes"] == found["whole"]["bytes"]


def test_the_seconds_of_condensing_decide_its_worth(folder: Path, command: Callable[..., list[str]]):
    """So many seconds that no number of students repays them soon; the number by hand."""
    times = folder / "times"
    times.mkdir()
    (times / "condense_graphs_trees.run.json").write_text(json.dumps({"seconds": 2e7, "cpu_seconds": 1e7}))
    more = ("learning_rates=[0.01]", "multiples=[]", "whole_steps=40")
    assert main(STAGE, command("out", *more, condensed="arms/trees", run_metrics=times)) == 0
    found = json.loads((folder / "out.json").read_text())
    entry = found["condensed"]["trees"]
    assert entry["condensing_seconds"] == 1e7
    gain = found["whole"]["nets"]["gin"]["seconds"] - entry["nets"]["gin"]["seconds"]
    worth = entry["worth"]["against_everything"]
    assert worth["n_students"] == int(1e7 / gain) + 1
    lost = found["whole"]["nets"]["gin"]["auc"]["mean"] - entry["nets"]["gin"]["auc"]["mean"]
    assert worth["auc_lost"] == pytest.approx(lost, abs=2e-4) and "at auc" in entry["worth"]["verdict"]


def test_a_killed_run_ends_as_an_unbroken_one(folder: Path, command: Callable[..., list[str]]):
    """Oracle: an unbroken run's dataset, byte for byte; cells that were done are not trained again."""
    more = ("learning_rates=[0.01]", "multiples=[]")
    assert main(STAGE, command("whole", *more)) == 0
    program = [sys.executable, "-m", "trainers.stages.evaluate_graphs", *command("broken", *more)]
    kill_after_a_checkpoint(program, folder / "home", "checkpoints/*/outcome-*.pt")
    assert not (folder / "broken").exists()
    assert main(STAGE, command("broken", *more)) == 0
    assert contents(folder / "broken") == contents(folder / "whole")
    assert not list((folder / "home").glob("checkpoints/*/outcome-*"))


def test_what_cannot_be_done_is_said_in_one_line(
    folder: Path, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
):
    """Exit code, one line, no output; before anything is trained."""
    (folder / "empty").mkdir()
    graphs = labelled_graphs(16, seed=2)
    trees = computation_trees(labelled_graphs(24).take(np.arange(2)), 1, degrees=False)
    strange = trees.graphs.node_labels.copy()
    strange[0, 0] = 50
    write_condensed_graphs(folder / "strange", replace(trees, graphs=replace(trees.graphs, node_labels=strange)), {})
    write_condensed_graphs(folder / "whole", trees, {})
    write_graphs(folder / "ones", graphs.take(np.flatnonzero(graphs.labels == 1)))
    write_graphs(folder / "renamed", replace(graphs, classes=["a", "b"]))
    for settings, files, code, says in (
        (["nets=[gin]"], {}, 2, "nets: what serves one net says little"),
        (["hidden=6", "nets=[gin, gat]"], {}, 2, "hidden: gat has 4 heads"),
        ([], {"test": "validation"}, 3, "16 of its 16 graphs are in"),
        ([], {"test": "ones"}, 3, "all graphs are of class yes; AUC needs both"),
        ([], {"test": "renamed"}, 3, "its classes are a, b, those of the training graphs no, yes"),
        ([], {"condensed": "empty"}, 3, "holds no condensed set"),
        ([], {"condensed": "strange"}, 3, "which must hold it; condense these"),
        ([], {"condensed": "whole"}, 3, "whole is what the evaluation calls an arm of its own"),
        ([], {"validation": "none"}, 3, "no such file"),
    ):
        assert main(STAGE, command("out", *settings, **files)) == code
        errors = capsys.readouterr().err.strip().splitlines()
        assert says in errors[-1] and not [line for line in errors if "Traceback" in line]
        assert not (folder / "out").exists()


def test_the_params_file_is_checked_without_torch():
    (problem,) = check_sections({"evaluate_graphs": {"seeds": 2}})
    assert problem.startswith("evaluate_graphs.seeds: ")
