"""Oracles: a draft that is its target; transformers' own generation; sums over the rows that the dataset holds."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.dataset import iterate, read_manifest
from datagen.contracts.stage import main
from trainers.stages.evaluate_draft import STAGE
from trainers.stages.train_lm import STAGE as TRAIN

WORDS = ("red", "blue", "green", "grey")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture(scope="module")
def noisy(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with noise on its weights."""
    folder = tmp_path_factory.mktemp("noisy") / "model"
    shutil.copytree(tiny, folder)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate(tmp_path: Path, tiny: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs the stage on four prompts; writes `out` and `out.json`."""
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"id": word, "prompt": f"say {word}"}) + "\n" for word in WORDS))

    def run(
        draft: Path, *settings: str, before: Path | None = None, path: Path = data, out: str = "out"
    ) -> tuple[int, dict[str, Any]]:
        files = ["--draft", str(draft), "--target", str(tiny), "--data", str(path), "--out", str(tmp_path / out)]
        files += ["--metrics", str(tmp_path / f"{out}.json"), *(["--before", str(before)] if before else [])]
        code = main(STAGE, [*files, "--set", "max_new_tokens=12", "n_threads=1", *settings])
        return code, json.loads((tmp_path / f"{out}.json").read_text()) if code == 0 else {}

    return run


def test_a_draft_that_is_its_target(evaluate: Callable[..., Any], tiny: Path, noisy: Path):
    """Every token is kept, and five come of a pass; against it the other draft is worse on each prompt."""
    code, metrics = evaluate(tiny, before=noisy)
    assert code == 0
    assert metrics["measured"]["acceptance"] == 1 and metrics["measured"]["standard_errors"] == 0
    assert metrics["tokens_a_pass"]["closed_form"] == 5
    assert metrics["acceptance"]["after"] == {"mean": 1, "low": 1, "high": 1}
    assert 0.1 < metrics["acceptance"]["before"]["mean"] < 0.95
    assert metrics["acceptance"]["difference"]["low"] > 0
    relative = 1 / metrics["acceptance"]["before"]["mean"] - 1
    assert metrics["acceptance"]["relative"]["mean"] == pytest.approx(relative, rel=1e-4)
    assert metrics["greedy"]["draft"]["n_equal"] == metrics["greedy"]["ngram"]["n_equal"] == 4
    assert metrics["greedy"]["draft"]["tokens_a_pass"] > 2


def test_rows_add_up_to_the_figures(evaluate: Callable[..., Any], tiny: Path, noisy: Path, tmp_path: Path):
    """And each greedy text is what transformers' `generate` writes of the prompt in the template."""
    code, metrics = evaluate(noisy)
    assert code == 0
    rows = list(iterate(tmp_path / "out"))
    assert [row["id"] for row in rows] == list(WORDS) and metrics["rows"] == {"in": 4, "out": 4, "rejected": 0}
    kept, judged = sum(row["n_accepted"] for row in rows), sum(row["n_judged"] for row in rows)
    assert metrics["measured"]["acceptance"] == pytest.approx(kept / judged, abs=1e-6)
    surplus = kept - sum(row["expected"] for row in rows)
    wanted = surplus / math.sqrt(sum(row["variance"] for row in rows))
    assert metrics["measured"]["standard_errors"] == pytest.approx(wanted, abs=1e-4) and abs(wanted) < 3
    assert "before" not in metrics["acceptance"] and rows[0]["acceptance_before"] is None
    alpha = sum(row["expected"] for row in rows) / judged
    assert metrics["tokens_a_pass"]["closed_form"] == pytest.approx((1 - alpha**5) / (1 - alpha), abs=1e-4)
    assert metrics == read_manifest(tmp_path / "out")["figures"] | {"rows": metrics["rows"], "rejected": {}}

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    for word, row in zip(WORDS, rows, strict=True):
        prompt = tokenizer(f"<s>user:say {word}</s>\n<s>assistant:", return_tensors="pt").input_ids
        text = model.generate(prompt, do_sample=False, max_new_tokens=12, pad_token_id=2)[0, prompt.shape[1] :]
        assert row["greedy_text"] == tokenizer.decode(text)

    facts = json.loads((tmp_path / "out.run.json").read_text())
    assert {f"greedy_{way}_{unit}" for way in ("alone", "draft", "ngram") for unit in ("seconds", "cpu_seconds")} <= {
        *facts
    }


def test_equal_runs_give_equal_bytes(evaluate: Callable[..., Any], noisy: Path, tmp_path: Path):
    assert evaluate(noisy, out="one")[0] == evaluate(noisy, out="two")[0] == 0
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_traces_and_greedy_acceptance(evaluate: Callable[..., Any], noisy: Path, tmp_path: Path):
    """Two answers of one prompt are one prompt; at temperature 0 acceptance is agreement, in the loop too."""
    data = tmp_path / "traces.jsonl"
    rows = [{"id": f"a{i}", "prompt_id": "a", "prompt": "say red", "completion": f"red {i}"} for i in range(2)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, metrics = evaluate(noisy, "temperature=0", path=data)
    assert code == 0 and metrics["n_prompts"] == 1
    (row,) = iterate(tmp_path / "out")
    assert row["acceptance"] == int(row["acceptance"]) and row["expected"] == row["n_accepted"]
    assert row["text"].startswith(row["greedy_text"])
    assert metrics["tokens_a_pass"]["measured"] == pytest.approx(row["n_tokens"] / row["n_passes"], abs=1e-4)


@pytest.mark.parametrize("objective", ["total_variation_pp", "negative_log_acceptance"])
def test_a_trained_draft_is_kept_more(
    objective: str, evaluate: Callable[..., Any], tiny: Path, noisy: Path, traces: Path, tmp_path: Path
):
    """What train_lm wrote is a draft as it is; its acceptance on the prompts it learned from is above the start's."""
    settings = [f"student={noisy}", f"teacher={tiny}", f"objective={objective}", "steps=15", "learning_rate=0.003"]
    files = ["--data", str(traces), "--out", str(tmp_path / "draft")]
    assert main(TRAIN, [*files, "--set", *settings, "n_threads=1", "schedule=constant"]) == 0
    code, metrics = evaluate(tmp_path / "draft", before=noisy, path=traces)
    assert code == 0 and metrics["n_prompts"] == 12
    assert metrics["acceptance"]["difference"]["low"] > 0
    assert abs(metrics["measured"]["standard_errors"]) < 3
    assert metrics["greedy"]["draft"]["n_equal_but_for_rounding"] == 12


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["max_new_tokens=600"], "no prompt to draft for; the first is 'red': "),
        (["n_drafted=0"], "n_drafted: Input should be greater than or equal to 1 (got 0)"),
        (["gamma=4"], "gamma: unknown parameter"),
    ],
)
def test_what_cannot_be_is_said(
    settings: list[str], told: str, evaluate: Callable[..., Any], tiny: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    assert evaluate(tiny, *settings)[0] != 0
    assert told in capsys.readouterr().err + caplog.text


def test_another_tokenizer_is_refused(
    evaluate: Callable[..., Any], tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_tokens(["datastill"])
    tokenizer.save_pretrained(other)
    assert evaluate(other)[0] != 0
    said = capsys.readouterr().err + caplog.text
    assert f"{other}: its tokenizer differs" in said and "student_layers" in said
