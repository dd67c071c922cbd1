"""The parts of benchmarks/encoder.py on a random encoder and a few rows, so that they do not rot; nothing is timed."""

import json
from pathlib import Path

import pytest

from benchmarks.encoder import main
from benchmarks.encoder_contexts import context_rows
from tests.tiny_encoder import HOLD, labelled_rows, write_rows, write_tiny_encoder

NAMES = sorted(HOLD.values())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as GoEmotions', of rows whose labels their words give away."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")
    for seed, (name, n) in enumerate((("train", 300), ("dev", 60))):
        lines = [
            f"{row['text']}\t{','.join(str(NAMES.index(label)) for label in row['labels'])}\t{row['id']}"  # type: ignore[union-attr]
            for row in labelled_rows(n, seed) if row["labels"]
        ]  # fmt: skip
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    return tmp_path


def run(data: Path, *arguments: str) -> dict[str, dict[str, object]]:
    out = data / "result.json"
    encoder = write_tiny_encoder(data / "encoder")
    usual = ["--goemotions", str(data), "--model", str(encoder), "--out", str(out), "--n-threads", "1"]
    main([*usual, *arguments])
    return json.loads(out.read_text())


def test_goemotions_and_speed(data: Path):
    """What a word gives away is learned; the second run keeps the first part's figures."""
    found = run(data, "--only", "goemotions", "--epochs", "15", "--set", "learning_rate=0.01", "batch_size=16")
    assert found["goemotions"]["one_threshold"]["macro_f1"] == 1.0  # type: ignore[index]
    both = run(data, "--only", "speed", "--n-rows", "8", "--turns", "1")
    assert both["goemotions"] == found["goemotions"]
    assert both["speed"]["own_lengths"]["ratio"] > 0  # type: ignore[index,operator]


def test_transfer_from_rows_that_say_the_same(data: Path):
    """Trained on 200 such rows before, a student of 27 rows is better than of those alone; by seed and on the mean."""
    synthetic = write_rows(data / "synthetic.jsonl", labelled_rows(200, 7))
    found = run(
        data, "--only", "transfer", "--synthetic", str(synthetic), "--seeds", "2", "--pretraining-epochs", "40",
        "--few-shot-epochs", "2", "--set", "learning_rate=0.01",
    )["transfer"]  # fmt: skip
    by_seed: list[dict[str, float]] = found["by_seed"]  # type: ignore[assignment]
    assert len(by_seed) == 2 and all(one["after"] > one["alone"] for one in by_seed)
    mean = sum(one["after"] - one["alone"] for one in by_seed) / 2
    difference: dict[str, float] = found["mean_difference"]  # type: ignore[assignment]
    assert difference["mean"] == pytest.approx(mean, abs=2e-4)
    assert 0 < difference["low"] < difference["mean"] < difference["high"]


def test_a_text_stands_with_every_label_equally_often_and_parts_share_none():
    rows = context_rows()
    for some in rows.values():
        labels = {
            text: sorted(row["labels"][0] for row in some if row["text"] == text) for text in {r["text"] for r in some}
        }
        assert len({tuple(one) for one in labels.values()}) == 1 and len(set(next(iter(labels.values())))) == 6
    texts = [{row["text"] for row in rows[name]} for name in ("train", "validation", "test")]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    contexts = {name: {row["context"] for row in some} for name, some in rows.items()}
    assert contexts["test"] == contexts["train"] and not contexts["test_new_contexts"] & contexts["train"]
