"""Real small classifiers, drawn at random; oracle: each row alone, unpadded, in float64, and transformers' pipeline."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from datagen.agreement.classifier import classify
from datagen.agreement.labels import Labels, NoAnswer
from datagen.backends.models import Model
from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.records import Example
from tests.datagen.agreement.conftest import MAX_POSITIONS, write_classifier

LABELS = ["joy", "fear", "love", "Mild Anger"]
OURS = Labels({"love": "", "joy": "", "mild anger": "", "hope": ""})
ROWS = [
    Example(id="a", text="At last!"),
    Example(id="b", text="At last!", context="It rained for a week."),
    Example(id="c", text="At last!", context="It rained.", character="a farmer"),
    Example(id="d", text="Run, they are coming over the hill!", character="a girl"),
    Example(id="e", text="é" * 30),
]


def model(folder: Path) -> Model:
    return Model(name="tiny", revision="0", folder=folder)


def probabilities(folder: Path, row: Example) -> dict[str, float]:
    """By label, of the row alone: context and character, a space between, before the text."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    known = " ".join(part for part in (row.context, row.character) if part)
    inputs = tokenizer(*([known, row.text] if known else [row.text]), return_tensors="pt")
    with torch.inference_mode():
        values = network(**inputs).logits.sigmoid()[0].tolist()
    return dict(zip(LABELS, values, strict=True))


def test_labels_hold_from_their_own_thresholds_on(tmp_path: Path):
    """Thresholds between the rows' own probabilities, so that each label holds for some; in any order."""
    folder = write_classifier(tmp_path / "a", LABELS, thresholds=None)
    by_row = [probabilities(folder, row) for row in ROWS]
    middle = {label: sorted(row[label] for row in by_row)[2] - 1e-7 for label in LABELS}
    folder = write_classifier(tmp_path / "b", LABELS, thresholds=middle)
    ours = {"joy": "joy", "love": "love", "Mild Anger": "mild anger"}
    wanted = [frozenset(ours[label] for label in ours if row[label] >= middle[label]) for row in by_row]
    found = classify(model(folder), ROWS, OURS, None)
    assert list(found.answers) == wanted and len(set(wanted)) > 2
    assert (found.labels, found.unknown) == (["love", "joy", "mild anger"], ["fear"])
    assert list(classify(model(folder), ROWS[::-1], OURS, None).answers) == wanted[::-1]


def test_a_given_threshold_takes_the_place_of_its_own(tmp_path: Path):
    """Oracle: what `transformers.pipeline` serves, rows without context."""
    folder = write_classifier(tmp_path, LABELS, thresholds=dict.fromkeys(LABELS, 0.999))
    served: Any = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    for threshold in (0.3, 0.5, 0.7):
        found = classify(model(folder), [ROWS[0], ROWS[4]], OURS, threshold)
        for row, answer in zip([ROWS[0], ROWS[4]], found.answers, strict=True):
            scores = {one["label"].lower(): one["score"] for one in served([row.text])[0]}
            assert answer == {label for label in OURS.names if scores.get(label, 0) >= threshold}
        assert found.thresholds == dict.fromkeys(LABELS, threshold)


def test_a_classifier_of_one_label_gives_the_most_probable(tmp_path: Path):
    """And nothing of ours where that is another one, which is not the same as the neutral label."""
    folder = write_classifier(tmp_path, LABELS, thresholds=None, problem_type="single_label_classification")
    best = [max(LABELS, key=probabilities(folder, row).__getitem__) for row in ROWS]
    neutral = Labels({"joy": "", "love": "", "neutral": ""}, neutral="neutral")
    found = classify(model(folder), ROWS, neutral, None)
    assert found.answers == [frozenset({one} & {"joy", "love"}) for one in best] and found.thresholds is None


def test_where_no_label_holds_the_text_is_neutral(tmp_path: Path):
    folder = write_classifier(tmp_path, [*LABELS[:3], "neutral"], thresholds=None)
    found = classify(model(folder), ROWS[:1], Labels({"joy": "", "neutral": ""}, neutral="neutral"), 0.9999)
    assert found.answers == [frozenset({"neutral"})]


def test_a_context_is_cut_and_a_text_is_not(tmp_path: Path):
    """Bytes are tokens: a text of as many as there are positions, less one, is read; with one more it is not."""
    folder = write_classifier(tmp_path, LABELS, thresholds=dict.fromkeys(LABELS, 0.5))
    fits, too_long = "x" * (MAX_POSITIONS - 1), "x" * MAX_POSITIONS
    rows = [
        Example(id="a", text=fits),
        Example(id="b", text=too_long),
        Example(id="c", text=fits, context="It rained."),
        Example(id="d", text="Run!", context="y" * 500),
    ]
    a, b, c, d = classify(model(folder), rows, OURS, None).answers
    assert b == NoAnswer("too_long", f"the text needs {MAX_POSITIONS + 1} tokens, the classifier reads {MAX_POSITIONS}")
    assert isinstance(c, NoAnswer) and not isinstance(a, NoAnswer)
    cut = Example(id="d", text="Run!", context="y" * (MAX_POSITIONS - 5))
    assert d == classify(model(folder), [cut], OURS, None).answers[0]


def test_what_cannot_be_used_is_said(tmp_path: Path):
    bare = write_classifier(tmp_path / "bare", LABELS, thresholds=None)
    with pytest.raises(DataError, match="it brings no thresholds; give one, such as threshold"):
        classify(model(bare), ROWS, OURS, None)
    with pytest.raises(DataError, match=r"its labels \(joy, fear, .*\) are none of these \(sun"):
        classify(model(bare), ROWS, Labels({"sun": ""}), 0.5)
    twice = write_classifier(tmp_path / "twice", ["joy", "Joy"], thresholds=None)
    with pytest.raises(DataError, match="two of its labels are 'joy'"):
        classify(model(twice), ROWS, OURS, 0.5)
    (bare / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(MissingError, match="classifier 'tiny' cannot be loaded"):
        classify(model(bare), ROWS, OURS, 0.5)


def test_logits_that_are_no_numbers_are_no_answer(tmp_path: Path):
    folder = write_classifier(tmp_path, LABELS, thresholds=None)
    network: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(network.classifier.bias, float("nan"))
    network.save_pretrained(folder)
    (answer,) = classify(model(folder), ROWS[:1], OURS, 0.5).answers
    assert isinstance(answer, NoAnswer) and answer.reason == "not_a_number"
