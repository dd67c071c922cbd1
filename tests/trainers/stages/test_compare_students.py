"""Oracles: a student that train_lm trains with the same parameters and seed, a second run's bytes."""

import json
from pathlib import Path

import polars as pl
import pytest

from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import main
from tests.trained import contents
from trainers.stages import evaluate_lm, train_lm
from trainers.stages.compare_students import STAGE


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    """Rows whose prompts are not learned, with a reference that no random model gives."""
    rows = [{"prompt": f"tell {i}", "completion": str(i) * 3, "reference": "12345"} for i in range(4)]
    file = tmp_path / "heldout.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(tiny: Path, traces: Path, heldout: Path, out: Path, *more: str) -> list[str]:
    return [
        "--data", str(traces), "--heldout", str(heldout), "--out", str(out), "--metrics", f"{out}.json", "--set",
        f"student={tiny}", f"teacher={tiny}", "steps=3", "batch_size=4", "n_threads=1", "seeds=2",
        "objectives=[supervised, forward_kl, taid]", *more,
    ]  # fmt: skip


def test_students_are_train_lm_s_and_runs_are_alike(tiny: Path, traces: Path, heldout: Path, tmp_path: Path):
    """Times and memory are in the run metrics alone."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(STAGE, arguments(tiny, traces, heldout, one)) == 0
    metrics = json.loads(Path(f"{one}.json").read_text())
    assert set(metrics["objectives"]) == {"start", "supervised", "forward_kl", "taid"}
    assert metrics["rows"] == {"learned": 12, "held_out": 4, "rejected": 0}
    costs = json.loads(Path(f"{one}.run.json").read_text())["students"]
    assert set(costs) == {"supervised", "forward_kl", "taid"} and costs["taid"]["peak_bytes"] > 0
    rows = pl.read_parquet(one / "part-*.parquet")
    assert rows.height == 7 and len(json.loads((one / "losses.json").read_text())) == 4

    student = tmp_path / "student"
    seed = derive_seed(0, "student", 1)
    settings = [f"student={tiny}", f"teacher={tiny}", "steps=3", "batch_size=4", "n_threads=1", f"seed={seed}"]
    train = ["--data", str(traces), "--out", str(student), "--set", "objective=forward_kl", *settings]
    assert main(train_lm.STAGE, train) == 0
    score = tmp_path / "score.json"
    assert main(evaluate_lm.STAGE, ["--model", str(student), "--data", str(heldout), "--metrics", str(score)]) == 0
    mine = rows.filter(objective="forward_kl", seed=1)["nats_per_token"].item()
    assert json.loads(score.read_text())["nats_per_token"] == pytest.approx(mine, rel=1e-5)

    assert main(STAGE, arguments(tiny, traces, heldout, two)) == 0
    assert contents(one) == contents(two)


def test_verified_rates_are_there_where_asked_for(tiny: Path, traces: Path, heldout: Path, tmp_path: Path):
    out = tmp_path / "out"
    more = ["objectives=[supervised]", "seeds=1", "n_judged=2", "answer_tokens=3", "steps=1"]
    assert main(STAGE, arguments(tiny, traces, heldout, out, *more)) == 0
    assert json.loads(Path(f"{out}.json").read_text())["objectives"]["supervised"]["verified_rate"]["mean"] == 0


@pytest.mark.parametrize(
    ("setting", "code", "says"),
    [
        ("objective=supervised", 2, "objective: of one student; name those that are compared in objectives"),
        ("objectives=[supervised, supervised]", 2, "objectives: supervised is there twice"),
        ("objectives=[{forward_kl: much}]", 2, "forward_kl"),
        ("objectives=[forward]", 2, "objective: no 'forward'"),
        ("stpes=3", 2, "stpes: unknown parameter; did you mean steps"),
        ("judge_every=2", 2, "judge_every: students are compared after the same steps"),
        ("on_policy_share=0.5", 2, "on_policy_share: students are compared on the same rows"),
        ("n_judged=1", 3, "no row has a reference"),
    ],
)
def test_what_cannot_be_compared_is_said(
    setting: str, code: int, says: str, tiny: Path, traces: Path, heldout: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    heldout.write_text(json.dumps({"prompt": "tell", "completion": "1"}) + "\n")
    assert main(STAGE, arguments(tiny, traces, heldout, tmp_path / "out", setting)) == code
    assert says in capsys.readouterr().err


def test_held_out_prompts_that_are_learned_are_refused(
    tiny: Path, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(STAGE, arguments(tiny, traces, traces, tmp_path / "out")) == 3
    assert "12 of 12 held-out prompts are among those that are learned" in capsys.readouterr().err
