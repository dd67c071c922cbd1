"""hub_dataset against a folder of questions that `datasets` itself loads."""

import json
from pathlib import Path

import pytest

from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.records import Prompt, Rejection
from datagen.contracts.stage import main
from datagen.prompts.hub_dataset import Config, hub_dataset
from datagen.stages.prompts import STAGE

ROWS = [
    {"question": "How many legs have two cows?", "answer": "Each cow has 4.\n#### 8"},
    {"question": "How many legs have two cows?", "answer": "Each cow has 4.\n#### 8"},
    {"question": "How many legs have three hens?", "answer": "I do not know"},
    {"question": "How many legs have four ants?", "answer": "#### 24"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "questions"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return data


def config(folder: Path, **more: object) -> Config:
    return Config.model_validate({"method": "hub_dataset", "sources": [{"dataset": str(folder), **more}]})


def test_every_row_is_a_prompt_or_a_rejection(folder: Path):
    """By hand: rows 0 and 3 have an answer behind ####, row 1 repeats row 0, row 2 has none."""
    out = list(hub_dataset(config(folder, answer_pattern="#### (.*)", instruction="Think."), None))
    assert [(type(row), getattr(row, "reason", None) or getattr(row, "reference", None)) for row in out] == [
        (Prompt, "8"),
        (Rejection, "duplicate"),
        (Rejection, "no_answer"),
        (Prompt, "24"),
    ]
    assert isinstance(out[0], Prompt)
    assert out[0].text == "How many legs have two cows?\nThink."


def test_n_prompts_takes_the_first_rows(folder: Path):
    """Without a pattern the whole answer is the reference."""
    (only,) = hub_dataset(config(folder, n_prompts=1), None)
    assert isinstance(only, Prompt)
    assert only.reference == ROWS[0]["answer"]


def test_a_question_that_a_second_source_repeats_is_kept_once(folder: Path):
    """The same folder twice: the second time every question was there before."""
    source = {"dataset": str(folder), "answer_pattern": "#### (.*)"}
    out = list(hub_dataset(Config.model_validate({"method": "hub_dataset", "sources": [source, source]}), None))
    assert [isinstance(row, Prompt) for row in out] == [True, False, False, True] + [False] * 4


def test_a_question_of_two_families_with_two_answers_is_asked_once(folder: Path):
    """Family and reference make an id, but no other question."""
    sources = [{"dataset": str(folder), "family": name, "answer_column": column, "n_prompts": 1}
               for name, column in (("sums", "answer"), ("animals", None))]  # fmt: skip
    first, second = hub_dataset(Config.model_validate({"method": "hub_dataset", "sources": sources}), None)
    assert isinstance(first, Prompt) and first.family == "sums"
    assert isinstance(second, Rejection) and second.reason == "duplicate" and first.id in second.detail


def test_too_many_rejections_stop_the_stage(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two of the four rows: half is allowed, less is not."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    source = json.dumps({"dataset": str(folder), "answer_pattern": "#### (.*)"})
    for share, code in ((0.49, 3), (0.5, 0)):
        out = tmp_path / f"out{share}"
        settings = ["method=hub_dataset", f"sources=[{source}]", f"max_rejected_share={share}"]
        assert main(STAGE, ["--out", str(out), "--set", *settings]) == code
        assert out.exists() == (code == 0)


def test_the_error_says_what_was_wrong_and_how_to_allow_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """By default 5 % of the rows may be none."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    source = json.dumps({"dataset": str(folder), "answer_pattern": "#### (.*)"})
    assert main(STAGE, ["--out", str(tmp_path / "out"), "--set", "method=hub_dataset", f"sources=[{source}]"]) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{folder}/default/train:1: asks the same as prompt " in said
    assert "2 of 4 rows are no prompts: duplicate 1, no_answer 1" in said and "max_rejected_share=0.5" in said


def test_missing_column_names_those_there_are(folder: Path):
    with pytest.raises(DataError, match="no column 'problem'; it has question, answer"):
        list(hub_dataset(config(folder, question_column="problem"), None))


def test_missing_dataset_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="no-such-org/no-such-set") as error:
        list(hub_dataset(config(Path("no-such-org/no-such-set")), None))
    assert "\n" not in str(error.value)
