"""Oracles: scikit-learn on the predictions that the dataset holds, thresholds and labels by hand."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from datagen.contracts.dataset import iterate, read_manifest
from datagen.contracts.stage import main
from tests.tiny_encoder import HOLD, labelled_rows, write_rows, write_tiny_encoder
from trainers.classifier import build
from trainers.stages.evaluate_encoder import STAGE

sklearn: Any = metrics  # its types leave out what its functions take and give
NAMES = sorted(HOLD.values())


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder with three classes, and thresholds as train_encoder stores them."""
    folder = write_tiny_encoder(tmp_path_factory.mktemp("classifier"))
    model, _ = build("tiny", folder, NAMES, 0)
    model.config.datastill = {"thresholds": {"grief": 0.4, "joy": 0.5, "surprise": 0.6}, "max_tokens": 24}
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate(classifier: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the stage on some rows; writes `out` and `out.json`."""

    def run(rows: list[Any], *settings: str, model: Path = classifier) -> int:
        test, out = write_rows(tmp_path / "test.jsonl", rows), tmp_path / "out"
        files = ["--model", str(model), "--test", str(test), "--out", str(out), "--metrics", f"{out}.json"]
        return main(STAGE, [*files, "--set", "n_threads=1", *settings])

    return run


def test_the_figures_are_those_of_scikit_learn(evaluate: Callable[..., int], tmp_path: Path):
    """From the probabilities in the dataset and the stored thresholds: macro and micro F1, support, and the table."""
    rows = labelled_rows(120)
    assert evaluate(rows) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    predictions = list(iterate(tmp_path / "out"))
    truth = np.array([[name in row["labels"] for name in NAMES] for row in rows])  # type: ignore[operator]
    assert [[one["name"] for one in row["probabilities"]] for row in predictions] == [NAMES] * len(rows)
    probabilities = np.array([[one["weight"] for one in row["probabilities"]] for row in predictions])
    predicted = probabilities >= np.array([0.4, 0.5, 0.6])
    assert [row["predicted"] for row in predictions] == [
        [name for name, is_predicted in zip(NAMES, one, strict=True) if is_predicted] for one in predicted
    ]
    for average in ("macro", "micro"):
        theirs = sklearn.f1_score(truth, predicted, average=average, zero_division=0.0)
        assert found[f"{average}_f1"] == pytest.approx(theirs, abs=5e-5)
    assert found["macro_f1_interval"]["low"] < found["macro_f1"] < found["macro_f1_interval"]["high"]
    assert {name: row["support"] for name, row in found["by_class"].items()} == dict(
        zip(NAMES, truth.sum(axis=0).tolist(), strict=True)
    )
    assert [row["threshold"] for row in found["by_class"].values()] == [0.4, 0.5, 0.6]
    manifest = read_manifest(tmp_path / "out")
    assert manifest["record"] == "Prediction" and manifest["figures"]["macro_f1"] == found["macro_f1"]


def test_a_given_threshold_takes_the_place_of_the_stored_ones(evaluate: Callable[..., int], tmp_path: Path):
    """At 0 every class is predicted: recall 1, precision the class's share."""
    rows = labelled_rows(50)
    assert evaluate(rows, "threshold=0") == 0
    for name, row in json.loads((tmp_path / "out.json").read_text())["by_class"].items():
        share = sum(name in one["labels"] for one in rows) / 50  # type: ignore[operator]
        assert (row["recall"], row["precision"]) == (1.0, pytest.approx(share, abs=5e-5))


def test_a_label_holds_from_a_weight_on(evaluate: Callable[..., int], tmp_path: Path):
    """0.3 and above by default."""
    rows = [{"text": "the sun", "labels": {"joy": weight}} for weight in (0.2, 0.3, 0.9)]
    for settings, n in (((), 2), (("positive_from=0.5",), 1)):
        assert evaluate(rows, *settings) == 0
        assert json.loads((tmp_path / "out.json").read_text())["by_class"]["joy"]["support"] == n


def test_rows_that_the_model_cannot_judge_are_rejections(evaluate: Callable[..., int], tmp_path: Path):
    """In the order of the rows; a row in which nothing holds is judged."""
    rows = [
        {"id": "a", "text": "glad", "labels": ["joy"]}, {"id": "b", "text": "glad", "labels": ["pride"]},
        {"id": "c", "text": "the " * 23, "labels": []}, {"id": "d", "text": "the", "labels": []},
        {"id": "e", "text": "the", "labels": {"joy": 2}},
    ]  # fmt: skip
    assert evaluate(rows, "max_rejected_share=0.6") == 0
    assert [row["id"] for row in iterate(tmp_path / "out")] == ["a", "d"]
    assert {row["id"]: row["reason"] for row in iterate(tmp_path / "out", "rejections")} == {
        "b": "unknown_label", "c": "too_long", "e": "bad_weight"
    }  # fmt: skip
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == {"in": 5, "out": 2, "rejected": 3}


def test_what_cannot_be_done_is_said_in_one_line(
    classifier: Path, evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Exit code, one line, no output: no model, none that classifies so, no threshold, labels of another taxonomy."""
    good = [{"text": "glad", "labels": ["joy"]}]
    plain = write_tiny_encoder(tmp_path / "plain")
    bare = tmp_path / "bare"
    build("tiny", plain, NAMES, 0)[0].save_pretrained(bare)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((plain / name).read_bytes())
    (tmp_path / "empty").mkdir()
    other = [{"text": "glad", "labels": ["merry"]}]
    for rows, settings, model, code, says in (
        (good, [], tmp_path / "empty", 3, "no folder of a model"),
        (good, [], plain, 3, "does not say problem_type multi_label_classification"),
        (good, [], bare, 3, "no thresholds are stored with this model; set one, such as threshold=0.5"),
        (good, ["threshold=1.5"], classifier, 2, "threshold: must be in [0, 1], or of_model (got 1.5)"),
        (good, ["threshold=high"], classifier, 2, "threshold"),
        (other, [], classifier, 3, "unknown_label: the label 'merry' is none of the 3 classes"),
        (other, ["max_rejected_share=1"], classifier, 3, "no row to evaluate on; the first is unknown_label"),
    ):
        assert evaluate(rows, *settings, model=model) == code
        errors = capsys.readouterr().err.strip()
        assert says in errors and "Traceback" not in errors
        assert not (tmp_path / "out").exists()
    assert evaluate(good, "threshold=0.5", model=bare) == 0


def test_the_params_file_is_checked_without_torch():
    """So that an early stage's start stays fast."""
    code = (
        "import sys; from datagen.contracts.stage import check_sections; "
        "assert check_sections({'train_encoder': {'epochs': 0}, 'evaluate_encoder': {'threshold': 2}}); "
        "assert not [name for name in ('torch', 'transformers', 'accelerate', 'numpy') if name in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
