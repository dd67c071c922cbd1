import json
import math
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
from tests.tiny_model import write_tiny_model
from tests.trainers.conftest import CHAT_TEMPLATE
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


@pytest.fixture(scope="module")
def student(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, taught to say the word that it is asked for."""
    folder = tmp_path_factory.mktemp("taught")
    traces = folder / "traces.jsonl"
    rows = [{"id": word, "prompt": f"say {word}", "completion": word} for word in TOLD]
    traces.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["--set", f"student={tiny}", "epochs=150", "batch_size=3", "learning_rate=0.01", "n_threads=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTILL_HOME", str(folder / "home"))
        patch.setenv("DATASTILL_DEVICE", "cpu")
        assert main(TRAIN, ["--data", str(traces), "--out", str(folder / "student"), *settings]) == 0
    return folder / "student"


def evaluate(tiny: Path, student: Path, prompts: Path, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    paths = ["--model", str(student), "--data", str(prompts), "--out", str(out)]
    metrics = out.with_suffix(".json")
    code = main(STAGE, [*paths, "--metrics", str(metrics), "--set", f"before={tiny}", "max_new_tokens=8", *more])
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
        (["method=judge", "backend=scripted"], 2, "method: asks a backend of its own, and evaluate_lm asks the models"),
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


def score(model: Path, data: Path, metrics: Path, *more: str) -> dict[str, Any]:
    """The metrics of a model alone, written nowhere else."""
    paths = ["--model", str(model), "--data", str(data), "--metrics", str(metrics)]
    assert main(STAGE, [*paths, "--set", "max_new_tokens=8", *more]) == 0
    return json.loads(metrics.read_text())


ANSWERS: tuple[dict[str, Any], ...] = (
    {"prompt": "x", "completion": "Grüße"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "你好!"}]},
)


def test_a_uniform_model_in_closed_form(tmp_path: Path):
    """Ln V nats a token; 7 bytes in 7 tokens and the turn's end, 7 in 7 and the end: 16 log2 V bits over 14 bytes."""
    model = write_tiny_model(tmp_path / "uniform", silent=True)
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    data = tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ANSWERS))
    metrics = score(model, data, tmp_path / "metrics.json")
    assert metrics["nats_per_token"] == pytest.approx(math.log(259), rel=1e-7)
    assert metrics["bits_per_byte"] == pytest.approx(16 * math.log2(259) / 14, rel=1e-7)
    assert (metrics["n_scored"], metrics["n_tokens"], metrics["n_bytes"]) == (2, 16, 14)
    assert "verified_rate" not in metrics
    assert not list(tmp_path.glob("*out*"))


def test_likelihood_as_transformers_computes_it(tiny: Path, tmp_path: Path):
    """Oracle: transformers' own loss on each conversation alone, its labels masked before the answer."""
    data = tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ANSWERS))
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    nats, n_tokens = 0.0, 0
    for prompt, answer in (("x", "Grüße"), ("a", "你好!")):
        given = tokenizer(f"<s>user:{prompt}</s>\n<s>assistant:", return_tensors="pt").input_ids
        whole = tokenizer(f"<s>user:{prompt}</s>\n<s>assistant:{answer}</s>", return_tensors="pt").input_ids
        labels = whole.clone()
        labels[:, : given.shape[1]] = -100
        n_learned = whole.shape[1] - given.shape[1]
        with torch.no_grad():
            nats += model(input_ids=whole, labels=labels).loss.item() * n_learned
        n_tokens += n_learned
    out = tmp_path / "evaluation"
    metrics = score(tiny, data, tmp_path / "metrics.json", "--out", str(out))
    assert metrics["nats_per_token"] == pytest.approx(nats / n_tokens, rel=1e-6)
    rows = pl.read_parquet(out / "likelihoods.parquet")
    assert rows["model"].to_list() == ["after", "after"] and rows["nats"].sum() == pytest.approx(nats, rel=1e-6)
    assert score(tiny, data, tmp_path / "again.json", "micro_batch_tokens=1")["nats_per_token"] == pytest.approx(
        metrics["nats_per_token"], rel=1e-6
    )


def test_rows_with_an_answer_and_a_verifier_are_scored_and_judged(tiny: Path, student: Path, tmp_path: Path):
    """The taught model says two of three words that it is asked for; of two rows of one prompt one is asked."""
    rows = [
        {"id": f"{word}-{i}", "prompt_id": word, "prompt": f"say {word}", "completion": word,
         "constraints": [{"id": "keywords:existence", "kwargs": {"keywords": [word]}}]}
        for i, word in enumerate(("red", "blue", "unsayable", "red"))
    ]  # fmt: skip
    data = tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = score(student, data, tmp_path / "metrics.json")
    assert (metrics["n_scored"], metrics["n_prompts"], metrics["verified_rate"]) == (4, 3, 0.6667)
    both = score(student, data, tmp_path / "both.json", f"before={tiny}")
    assert both["verified_rate"] == {"before": 0.0, "after": 0.6667}
    assert both["nats_per_token"]["after"] == metrics["nats_per_token"] < both["nats_per_token"]["before"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "what?"}, "no row has an answer to score, or a reference, constraints or tests to judge one by"),
        ({"text": "a text", "labels": []}, "no answer or text to score, and no prompt to evaluate on"),
        ({"prompt": "a" * 600, "completion": "b"}, "1 of 1 rows cannot be used, max_rejected_share is 0.05; the first"),
        ({"prompt": "a", "completion": " ", "id": "e"}, None),
        ({"prompt": "a", "completion": "", "id": "e"}, "first is 'e': empty_completion: no text to score"),
    ],
)
def test_data_that_says_nothing_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, says: str | None
):
    """A space is a text, if a short one; the context is 512."""
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(row) + "\n")
    code = main(STAGE, ["--model", str(tiny), "--data", str(data)])
    assert code == (0 if says is None else 3)
    assert says is None or says in capsys.readouterr().err


def test_a_model_without_numbers_is_named(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One whose head is infinite."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    torch.nn.init.constant_(model.lm_head.weight, math.inf)
    model.save_pretrained(tmp_path / "bad")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "bad")
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"id": "r", "prompt": "a", "completion": "b"}) + "\n")
    assert main(STAGE, ["--model", str(tmp_path / "bad"), "--data", str(data)]) == 3
    assert "row 'r': its tokens have nan nats; look at the model's logits" in capsys.readouterr().err


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


def test_texts_are_scored_in_pieces(tiny: Path, tmp_path: Path):
    """Oracle: transformers' own loss of the pieces `abcd` and `defg`; 6 bytes after the first, `z` has nothing."""
    data, out = tmp_path / "texts.jsonl", tmp_path / "out.json"
    data.write_text('{"id": "a", "text": "abcdefg"}\n{"id": "b", "text": "z"}\n')
    given = ["--model", str(tiny), "--data", str(data), "--out", str(tmp_path / "out"), "--metrics", str(out)]
    assert main(STAGE, [*given, "--set", "text_tokens=4", "max_rejected_share=0.5"]) == 0
    metrics = json.loads(out.read_text())
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokens = [
        AutoTokenizer.from_pretrained(tiny)(piece, return_tensors="pt")["input_ids"] for piece in ("abcd", "defg")
    ]
    nats = sum(3 * model(one, labels=one).loss.item() for one in tokens)
    assert metrics["nats_per_token"] == pytest.approx(nats / 6, rel=1e-5)
    assert metrics["bits_per_byte"] == pytest.approx(nats / 6 / math.log(2), rel=1e-5)
    assert (metrics["n_scored"], metrics["n_tokens"], metrics["n_bytes"]) == (1, 6, 6)
    assert metrics["rejected"] == {"empty_text": 1}
    table = pl.read_parquet(tmp_path / "out" / "likelihoods.parquet")
    assert table.rows() == [("a", "after", pytest.approx(nats, rel=1e-5), 6, 6)]
