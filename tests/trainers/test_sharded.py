"""Oracle: one process, whose weights are whole."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datagen.contracts.errors import ParamsError
from datagen.contracts.stage import main
from tests.trained import kill_after_a_checkpoint
from trainers.sharded import is_wanted
from trainers.stages.train_lm import STAGE


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def test_sharded_over_two_processes_training_is_as_in_one(
    tiny: Path, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """To float32's precision; micro-batches, the best weights of a judge, and a kill on the way."""
    settings = ["n_threads=1", "steps=12", "batch_size=5", "micro_batch_tokens=64", "learning_rate=0.001",
                "judge_every=4", f"student={tiny}"]  # fmt: skip

    def arguments(out: Path) -> list[str]:
        return ["--data", str(traces), "--validation", str(traces), "--out", str(out), "--set", *settings]

    one, two = tmp_path / "one", tmp_path / "two"
    assert main(STAGE, arguments(one)) == 0
    monkeypatch.setenv("DATASTILL_PROCESSES", "2")
    monkeypatch.setenv("DATASTILL_SHARD", "1")
    kill_after_a_checkpoint([sys.executable, "-m", "trainers.stages.train_lm", *arguments(two)], tmp_path / "home")
    assert list((tmp_path / "home").glob("checkpoints/*/step-*/pytorch_model_fsdp_0")), "no weights in parts"
    assert main(STAGE, arguments(two)) == 0
    expected, found = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)
    records = [json.loads((folder / "loss.json").read_text()) for folder in (one, two)]
    for key in ("loss", "gradient_norm"):
        assert [record[key] for record in records[1]] == pytest.approx([r[key] for r in records[0]], rel=1e-3)
    assert sum("judged" in record for record in records[1]) == 3


def test_what_is_no_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_SHARD", "yes")
    with pytest.raises(ParamsError, match=r"\$DATASTILL_SHARD: expected 0 or 1 \(got 'yes'\)"):
        is_wanted()
    monkeypatch.setenv("DATASTILL_SHARD", "")
    assert not is_wanted()
