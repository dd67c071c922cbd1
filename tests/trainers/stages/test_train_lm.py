import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.stage import main
from tests.trained import contents, kill_after_a_checkpoint
from trainers.stages.train_lm import STAGE

SETTINGS = ("n_threads=1", "epochs=6", "batch_size=5", "micro_batch_tokens=64", "learning_rate=0.01", "max_tokens=64")
LONG = "epochs=30"  # 90 steps: it cannot end before it is killed
MODULE = "trainers.stages.train_lm"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def arguments(tiny: Path, traces: Path, out: Path, *more: str) -> list[str]:
    settings = ["--set", f"student={tiny}", *SETTINGS, *more]
    return ["--data", str(traces), "--out", str(out), "--metrics", str(out.with_suffix(".json")), *settings]


def test_killed_training_ends_where_an_unbroken_one_ends(
    tiny: Path, traces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Oracle: an unbroken run, byte for byte, metrics included; no checkpoint is left."""
    whole, broken, home = tmp_path / "whole", tmp_path / "broken", tmp_path / "home"
    assert main(STAGE, arguments(tiny, traces, whole, LONG)) == 0
    kill_after_a_checkpoint([sys.executable, "-m", MODULE, *arguments(tiny, traces, broken, LONG)], home)
    assert not broken.exists()
    assert main(STAGE, arguments(tiny, traces, broken, LONG)) == 0
    assert any("goes on after step" in message for message in caplog.messages)
    assert contents(broken) == contents(whole)
    assert broken.with_suffix(".json").read_bytes() == whole.with_suffix(".json").read_bytes()
    assert not list(home.glob("checkpoints/*/step-*"))


def test_two_processes_train_as_one(tiny: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one process, to float32's precision. Of 11 rows in fives one is left for the last step of an epoch.

    The two are killed on the way; their workers end with the stage, and they go on from the checkpoint.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    eleven = tmp_path / "eleven.jsonl"
    eleven.write_text("".join(traces.read_text().splitlines(keepends=True)[:11]))
    assert main(STAGE, arguments(tiny, eleven, one, LONG, "learning_rate=0.001")) == 0
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    as_two = arguments(tiny, eleven, two, LONG, "learning_rate=0.001")
    kill_after_a_checkpoint([sys.executable, "-m", MODULE, *as_two], tmp_path / "home")
    assert main(STAGE, as_two) == 0
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)
    losses = [[record["loss"] for record in json.loads((d / "loss.json").read_text())] for d in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_an_error_in_a_worker_is_the_stages_own(
    tiny: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Exit code 3 and one line, as from one process."""
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    assert main(STAGE, arguments(tiny, traces, tmp_path / "out", "max_tokens=2", "max_rejected_share=1")) == 3
    assert "no row is left to train on: {'too_long': 12}" in capsys.readouterr().err


def test_the_student_has_learned_and_loads(tiny: Path, traces: Path, tmp_path: Path):
    """Oracles: a loss far below ln 259 (the vocabulary) on answers of one digit; transformers' own loaders."""
    out = tmp_path / "student"
    assert main(STAGE, arguments(tiny, traces, out, "epochs=20")) == 0
    metrics = json.loads(out.with_suffix(".json").read_text())
    assert metrics["loss_last_epoch"] < 2.5 < 5 < metrics["loss_first_step"]
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    assert model.dtype == torch.float32
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<s>user:x</s>\n"
    losses = json.loads((out / "loss.json").read_text())
    assert [record["step"] for record in losses] == list(range(1, 61))
    assert not [name for name, content in contents(out).items() if str(tmp_path).encode() in content]


def test_dropped_rows_are_in_the_folder_and_in_the_counts(tiny: Path, traces: Path, tmp_path: Path):
    """Oracle: one row written twice under another id."""
    rows = traces.read_text()
    traces.write_text(rows + rows.splitlines()[0].replace('"row-0"', '"twin"') + "\n")
    out = tmp_path / "student"
    assert main(STAGE, arguments(tiny, traces, out, "steps=1")) == 0
    metrics = json.loads(out.with_suffix(".json").read_text())
    assert metrics["rows"] == {"in": 13, "out": 12, "rejected": 1}
    assert pl.read_parquet(out / "rejections.parquet").rows() == [
        ("twin", "train_lm", "equal_completion", "an earlier trace of the prompt says the same")
    ]


@pytest.mark.parametrize(
    ("setting", "variables", "code", "says"),
    [
        ("needs_cuda=true", {}, 2, "train_lm.needs_cuda: this student trains on CUDA only"),
        ("objective=cross_entropie", {}, 2, "objective: no 'cross_entropie'; there are forward_kl"),
        ("objective=binary_cross_entropy", {}, 2, "labels of a text, for train_encoder; train_lm takes forward_kl"),
        ("learning_rat=1", {}, 2, "did you mean learning_rate?"),
        ("epochs=0", {}, 2, "epochs: Input should be greater than or equal to 1 (got 0)"),
        ("student=nowhere", {}, 2, "model 'nowhere' is neither a folder"),
        ("max_tokens=2", {}, 3, "12 of 12 rows cannot be used"),
        ("epochs=1", {"DATASTILL_PROCESSES": "two"}, 2, "$DATASTILL_PROCESSES: expected a positive whole number"),
        ("epochs=1", {"DATASTILL_DEVICE": "tpu"}, 2, "$DATASTILL_DEVICE: expected cpu or cuda (got 'tpu')"),
        ("epochs=1", {"DATASTILL_REPORT_TO": "paper"}, 2, "$DATASTILL_REPORT_TO: expected none, trackio"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tiny: Path,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    variables: dict[str, str],
    code: int,
    says: str,
):
    """Exit code, one line, no output."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(STAGE, arguments(tiny, traces, tmp_path / "out", setting)) == code
    errors = capsys.readouterr().err.strip()
    assert says in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_a_params_file_is_checked_without_torch():
    """So that an early stage's start stays fast."""
    slow = ["torch", "transformers", "accelerate", "datasets", "pyarrow", "numpy"]
    code = (
        "import sys; from datagen.contracts.stage import check_sections; "
        "assert check_sections({'train_lm': {'epochs': 0}, 'evaluate_lm': {'batch_size': 0}}); "
        f"assert not [name for name in {slow} if name in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
