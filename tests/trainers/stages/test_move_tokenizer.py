"""From a model to one of another tokenizer and on to a student; oracles: UTF-8, the files, the old embeddings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import main
from trainers import lm_students
from trainers.stages import move_tokenizer, train_lm


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def run(stage: Any, out: Path, *inputs: str, **params: Any) -> tuple[int, dict[str, Any]]:
    metrics = out.with_suffix(".json")
    given = [f"{name}={json.dumps(value) if isinstance(value, dict) else value}" for name, value in params.items()]
    code = main(stage, [*inputs, "--out", str(out), "--metrics", str(metrics), "--set", *given])
    return code, json.loads(metrics.read_text()) if metrics.exists() else {}


def test_to_subwords_and_on_to_a_student(tiny: Path, traces: Path, tmp_path: Path):
    """The tiny model of bytes moves to subwords of its traces and learns every answer from itself, by texts."""
    folder = tmp_path / "subwords"
    code, metrics = run(
        move_tokenizer.STAGE, folder, "--data", str(traces), student=tiny, tokenizer="trained", n_tokens=270
    )
    assert code == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert 256 < metrics["n_tokens"]["after"] - 3 <= 270 and metrics["n_tokens"]["before"] == 259
    assert len(tokenizer("say very 3")["input_ids"]) < len("say very 3")
    assert tokenizer.decode(tokenizer("say very 3 é")["input_ids"]) == "say very 3 é"
    moved: Any = AutoModelForCausalLM.from_pretrained(folder)
    old: Any = AutoModelForCausalLM.from_pretrained(tiny)
    a, before = tokenizer.convert_tokens_to_ids("a"), AutoTokenizer.from_pretrained(tiny).convert_tokens_to_ids("a")
    torch.testing.assert_close(moved.get_input_embeddings().weight[a], old.get_input_embeddings().weight[before])

    code, learned = run(
        train_lm.STAGE, tmp_path / "student", "--data", str(traces), student=folder, teacher=tiny,
        objective="likelihood_matching", epochs=1, batch_size=6,
    )  # fmt: skip
    assert code == 0 and learned["rows"]["out"] == 12
    answers = [json.loads(line)["completion"] for line in traces.read_text().splitlines()]
    assert learned["n_tokens_learned"] == sum(len(tokenizer(answer)["input_ids"]) + 1 for answer in answers)
    assert learned["loss_first_step"] > 0


def test_bytes_by_default(tiny: Path, tmp_path: Path):
    """A token a byte; the ends are where the special tokens stand; what is written again is the same."""
    for name in ("first", "second"):
        assert run(move_tokenizer.STAGE, tmp_path / name, student=tiny)[0] == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "first")
    assert tokenizer("né")["input_ids"] == list("né".encode())
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (259, tokenizer.eos_token_id)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file.name


def test_likelihood_matching_takes_one_kind_of_teacher():
    """Named or not; beside other objectives too, but then not their kind."""
    for objective in ("likelihood_matching", {"likelihood_matching": 100.0, "supervised": 1.0}):
        section = {"teacher": "some", "objective": objective}
        assert lm_students.parse(section)[lm_students.Config].teacher_kind == "other_tokenizer"
        with pytest.raises(ParamsError, match="likelihood_matching needs other_tokenizer"):
            lm_students.parse({**section, "teacher_kind": "online"})
    with pytest.raises(ParamsError, match="needs a teacher"):
        lm_students.parse({"objective": "likelihood_matching"})
    with pytest.raises(ParamsError, match="no other objective takes it"):
        lm_students.parse({"teacher": "some", "teacher_kind": "other_tokenizer", "objective": "forward_kl"})


def test_texts_without_training_are_refused(tiny: Path, traces: Path, tmp_path: Path, capsys: Any):
    assert run(move_tokenizer.STAGE, tmp_path / "out", "--data", str(traces), student=tiny)[0] != 0
    assert run(move_tokenizer.STAGE, tmp_path / "out", student=tiny, tokenizer="trained")[0] != 0
    assert "got 'trained' without --data" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
