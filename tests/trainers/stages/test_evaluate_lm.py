import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.stage import main
from trainers.stages.evaluate_lm import STAGE
from trainers.stages.train_lm import STAGE as TRAIN

TOLD = ("red", "blue", "green")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Three prompts that ask for a word, in two families, and one that asks for what no model says."""
    rows = [
        {"id": word, "prompt": f"say {word}", "family": "warm" if word == "red" else "cold",
         "constraints": [{"id": "keywords:existence", "kwargs": {"keywords": [word]}}]}
        for word in TOLD
    ]  # fmt: skip
    rows.append({**rows[0], "id": "never", "prompt": "say never", "constraints": [
        {"id": "keywords:existence", "kwargs": {"keywords": ["unsayable"]}}]})  # fmt: skip
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def student(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model, taught to say the word that it is asked for."""
    traces = tmp_path / "traces.jsonl"
    rows = [{"id": word, "prompt": f"say {word}", "completion": word} for word in TOLD]
    traces.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["--set", f"model={tiny}", "epochs=150", "batch_size=3", "learning_rate=0.01", "n_threads=1"]
    assert main(TRAIN, ["--traces", str(traces), "--out", str(tmp_path / "student"), *settings]) == 0
    return tmp_path / "student"


def evaluate(tiny: Path, student: Path, prompts: Path, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    paths = ["--student", str(student), "--prompts", str(prompts), "--out", str(out)]
    metrics = out.with_suffix(".json")
    code = main(STAGE, [*paths, "--metrics", str(metrics), "--set", f"model={tiny}", "max_new_tokens=8", *more])
    return code, json.loads(metrics.read_text()) if code == 0 else {}


def test_rates_before_and_after(tiny: Path, student: Path, prompts: Path, tmp_path: Path):
    """Oracle: transformers' own greedy generation from both models; three of four prompts can be met."""
    out = tmp_path / "evaluation"
    code, metrics = evaluate(tiny, student, prompts, out)
    assert code == 0
    assert metrics["n_prompts"] == 4
    assert metrics["verified_rate"] == {"before": 0.0, "after": 0.75}
    assert metrics["by_family"] == {
        "cold": {"n": 2, "before": 0.0, "after": 1.0},
        "warm": {"n": 2, "before": 0.0, "after": 0.5},
    }
    assert metrics["difference"]["mean"] == 0.75
    assert 0.0 <= metrics["difference"]["low"] < 0.75 < metrics["difference"]["high"] == 1.0

    rows = pl.read_parquet(out / "part-*.parquet")
    assert rows["teacher"].to_list() == ["before", "after"] * 4
    assert rows["prompt_id"].to_list() == [id for id in [*TOLD, "never"] for _ in range(2)]
    for who, folder in (("before", tiny), ("after", student)):
        found = rows.filter(teacher=who)["completion"].to_list()
        assert found == [generate(folder, f"say {word}") for word in [*TOLD, "never"]]
    verdicts = pl.read_parquet(out / "verdicts.parquet")
    assert verdicts["id"].to_list() == rows["id"].to_list()
    assert (verdicts["status"] == "pass").sum() == 3


def generate(folder: Path, prompt: str) -> str:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    return tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_second_run_asks_nothing_and_writes_the_same(tiny: Path, student: Path, prompts: Path, tmp_path: Path):
    """Oracle: the first run's bytes, and the run's own counts."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert evaluate(tiny, student, prompts, first)[0] == evaluate(tiny, student, prompts, second)[0] == 0
    assert {f.name: f.read_bytes() for f in first.iterdir()} == {f.name: f.read_bytes() for f in second.iterdir()}
    facts = json.loads(second.with_suffix(".run.json").read_text())
    assert (facts["ledger_hits_before"], facts["ledger_hits_after"]) == (4, 4)


def test_a_row_that_is_no_prompt_is_a_rejection(tiny: Path, student: Path, prompts: Path, tmp_path: Path):
    """Four prompts give eight rows; the fifth line is named."""
    with prompts.open("a") as lines:
        lines.write("{\n")
    out = tmp_path / "evaluation"
    code, metrics = evaluate(tiny, student, prompts, out, "max_rejected_share=0.2")
    assert code == 0
    assert metrics["rows"] == {"in": 9, "out": 8, "rejected": 1}
    assert pl.read_parquet(out / "rejections.parquet")["id"].to_list() == ["prompts.jsonl:5"]


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        (["method=by_rows"], 2, "method: no 'by_rows' in datagen.verify"),
        (["method=judge", "backend=scripted"], 2, "method: asks a backend of its own, and evaluate_lm asks the two"),
        (["n_resamples=0"], 2, "n_resamples: Input should be greater than or equal to 1"),
        (["harness=lm-eval"], 2, "harness: Input should be 'none' or 'lm_eval'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tiny: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    code: int,
    says: str,
):
    """Exit code, one line, no output."""
    assert evaluate(tiny, tiny, prompts, tmp_path / "out", *settings)[0] == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_named(
    tiny: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert evaluate(tiny, tmp_path, prompts, tmp_path / "out")[0] == 3
    assert "no folder of a model" in capsys.readouterr().err


def test_the_harness_is_asked_for_only_where_it_is(
    tiny: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Before any work: the command that installs it; and where it is, prompts that it can judge."""
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as Python marks a package that cannot be imported
    assert evaluate(tiny, tiny, prompts, tmp_path / "out", "harness=lm_eval")[0] == 2
    assert "pip install lm-eval" in capsys.readouterr().err
    installed = ModuleType("lm_eval")
    installed.__spec__ = ModuleSpec("lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval", installed)
    assert evaluate(tiny, tiny, prompts, tmp_path / "out", "harness=lm_eval")[0] == 2
    assert "no prompt has a number as its reference" in capsys.readouterr().err
