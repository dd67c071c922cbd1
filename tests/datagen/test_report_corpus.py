"""The report on a corpus: what the dataset holds, counted by hand, and nothing that a model wrote can act in it."""

from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.records import Example, Prediction, Rejection
from datagen.report.corpus import corpus_sections
from datagen.synthesis.label_map import LabelMapping

HOSTILE = "<script>alert(1)</script>"
GROUP = {"texts": 3, "distinct_2": 0.81234, "self_bleu": None, "near_by_cosine": 0.25, "topics": 2.5}
LABELS = {"effective": 1.9, "counts": {"joy": 2, "fear": 1}}
DIVERSITY = {"all": GROUP, "not_neutral": GROUP, "neutral": {"texts": 0}, "labels": LABELS}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three rows of two families, one rejection, two labels outside the taxonomy."""
    manifest = {
        "stage": "corpus",
        "method": "emo_pillars",
        "params": {"backend": "local"},
        "teacher": {"model": "tiny"},
    }
    labels: list[Any] = [{"name": "joy", "weight": 0.7}]
    tables: dict[str, Any] = {"label_map": LabelMapping}
    with DatasetWriter(tmp_path / "corpus", Example, manifest, tables) as writer:
        for i, family in enumerate(("contextless", "contextual", "contextless")):
            writer.read()
            writer.write(Example(id=f"e{i}", text=f"{HOSTILE} {i}", labels=labels, family=family, context=HOSTILE))
        writer.read()
        writer.reject(Rejection(id="e3", stage="corpus", reason="near_duplicate", detail="of e0"))
        for proposed, mapped, how in (
            ("joy", "joy", "exact"),
            (HOSTILE, None, "below_threshold"),
            ("glee", "joy", "listed"),
        ):
            row: Any = {"id": proposed, "proposed": proposed, "mapped_to": mapped, "cosine": 0.125, "n": 2, "how": how}
            mapping: Any = LabelMapping(**row)
            writer.add("label_map", mapping)
        writer.describe(figures={"steps": {"calls.labels": 3}, "labels": {"joy": 2}, "diversity": DIVERSITY})
    return tmp_path / "corpus"


def evaluation(folder: Path, stage: str = "evaluate_encoder") -> Path:
    by_class = {"joy": {"support": 4, "precision": 0.5, "recall": 0.25, "f1": 1 / 3}}
    interval = {"low": 0.1, "high": 0.2}
    figures = {
        "n_rows": 9,
        "macro_f1": 0.15,
        "macro_f1_interval": interval,
        "calibration_error": 0.05,
        "by_class": by_class,
    }
    with DatasetWriter(folder / "evaluation", Prediction, {"stage": stage, "figures": figures}):
        pass
    return folder / "evaluation"


def test_it_shows_what_the_dataset_holds(corpus: Path, tmp_path: Path):
    page = corpus_sections(corpus, evaluation(tmp_path))
    assert "tiny wrote 3 rows by <code>emo_pillars</code>, and 1 were dropped" in page
    for said in (
        "near_duplicate",
        "labels",
        "2 of 6 labels",
        "the other 4 are of 2 kinds",
        "glee",
        "0.812",
        "25\u202f%",
        "too few",
    ):
        assert said in page
    assert "macro-F1 0.150, 95 % interval 0.100 to 0.200" in page and "1.9 labels' worth" in page
    assert page.count('<article class="sample">') == 3 and ">neutral<" not in page


def test_nothing_of_a_model_s_is_markup(corpus: Path):
    page = corpus_sections(corpus, None)
    assert "<script" not in page and "&lt;script&gt;" in page and "What a student learns" not in page


def test_another_stage_s_dataset_is_refused(corpus: Path, tmp_path: Path):
    with pytest.raises(DataError, match="expected what evaluate_encoder writes, found evaluate_lm"):
        corpus_sections(corpus, evaluation(tmp_path, "evaluate_lm"))
    with pytest.raises(DataError, match="expected what corpus writes"):
        corpus_sections(evaluation(tmp_path), None)
