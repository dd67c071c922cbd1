"""Oracles: runs of the pipeline's own stages, and figures by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from datagen.cli import main

PARAMS: dict[str, Any] = {
    "prompts": {"method": "user_rows"},
    "traces": {
        "method": "n_samples", "backend": "scripted", "samples_per_prompt": 4, "max_new_tokens": 10,
        "price_per_million_prompt_tokens": 1.0, "price_per_million_completion_tokens": 2.0,
    },
    "verify": {"method": "short_answer"},
    "train_lm": {"student": "smollm2-135m-instruct", "batch_size": 8, "epochs": 3, "max_tokens": 100},
    "evaluate_lm": {
        "method": "short_answer", "before": "smollm2-135m-instruct", "max_new_tokens": 10, "dtype": "bfloat16",
    },
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline that `datastill init` writes, of other prompts and params."""
    (tmp_path / "raw").mkdir()
    for name, n in (("prompts", 12), ("heldout", 5)):
        rows = [{"id": f"{name}{i}", "prompt": "a" * 36, "reference": "b"} for i in range(n)]
        (tmp_path / "raw" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "dvc.yaml").write_text((root / "datagen" / "init" / "project" / "dvc.yaml").read_text())
    write(tmp_path, PARAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    return tmp_path


def write(project: Path, params: dict[str, Any]) -> None:
    all_of_it = {**params, "prompts_heldout": {"method": "user_rows"}, "datastill": {"version": "0.1.0"}}
    (project / "params.yaml").write_text(yaml.safe_dump(all_of_it))


def plan(*arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    assert main(["plan", "--out", "plan.json", *arguments]) == code
    return {one["name"]: one for one in json.loads(Path("plan.json").read_text())["stages"]}


def run(stage: str, *arguments: str) -> None:
    assert main([stage, "--params", "params.yaml", *arguments, "--metrics", f"metrics/{stage}.json"]) == 0


def test_before_the_first_run_figures_follow_from_params(project: Path):
    """12 prompts, 4 answers of 10 tokens each; 48 rows are 6 steps an epoch; no rate, no time."""
    stages = plan("--prompt-tokens", "20")
    assert [stages[name]["rows"] for name in ("prompts", "traces", "verify")] == [12, 48, 48]
    traces = stages["traces"]
    assert (traces["requests"], traces["prompt_tokens"], traces["completion_tokens"]) == (48, 960, 480)
    assert traces["cost"] == pytest.approx((960 + 2 * 480) / 1e6)
    assert stages["train_lm"]["steps"] == 18
    assert stages["train_lm"]["memory_bytes"] == {"student, gradients, optimiser": 16 * 134_515_008}
    assert stages["evaluate_lm"]["requests"] == 10
    assert stages["evaluate_lm"]["memory_bytes"] == {
        "weights": 2 * 134_515_008,
        "KV cache of 64": 64 * 1034 * 11520 * 2,
    }
    assert all(stage["seconds"] is None and "no earlier run" in stage["seconds_from"] for stage in stages.values())


def test_what_ran_is_counted_and_its_time_taken_in_proportion(project: Path):
    """Rows and seconds are the run's own with the same params; twice the samples take twice the time."""
    run("prompts", "--raw", "raw/prompts.jsonl", "--out", "data/prompts")
    run("traces", "--prompts", "data/prompts", "--out", "data/traces")
    run("verify", "--traces", "data/traces", "--out", "data/verified")
    seconds = json.loads(Path("metrics/traces.run.json").read_text())["seconds"]
    kept = json.loads(Path("data/verified/manifest.json").read_text())["rows"]["out"]

    stages = plan()
    assert (stages["traces"]["rows"], stages["traces"]["seconds"]) == (48, seconds)
    assert stages["traces"]["prompt_tokens"] == 48 * (36 // 4 + 4)  # the budget's rule
    assert stages["verify"]["rows"] == kept

    write(project, PARAMS | {"traces": PARAMS["traces"] | {"samples_per_prompt": 8}})
    stages = plan()
    assert stages["traces"]["seconds"] == pytest.approx(2 * seconds)
    assert "in proportion to samples_per_prompt" in stages["traces"]["seconds_from"]
    assert stages["verify"]["rows"] == 96  # at most: its input would be another
    assert "in proportion to rows" in stages["verify"]["seconds_from"]

    write(project, PARAMS | {"traces": PARAMS["traces"] | {"n_words": 3}})
    assert "another n_words" in plan()["traces"]["seconds_from"]


def test_answers_from_the_ledger_make_no_rate(project: Path):
    run("prompts", "--raw", "raw/prompts.jsonl", "--out", "data/prompts")
    for _ in range(2):
        run("traces", "--prompts", "data/prompts", "--out", "data/traces")
    assert plan()["traces"]["seconds_from"] == "the earlier run had 48 answers from the ledger"


def test_rates_that_are_given_go_before(project: Path):
    """A model at 7 tokens a second; a device of 1e12 FLOP, 6 a weight and token: 18 steps of 8 rows of 100 tokens."""
    server = {"backend": "openai_api", "base_url": "http://127.0.0.1:9/v1", "model": "org/Served-3B"}
    write(project, PARAMS | {"traces": {"samples_per_prompt": 4, "max_new_tokens": 10, **server}})
    best = {"completion_tokens_per_second": 7}
    (project / "tune.json").write_text(json.dumps({"model": "org/Served-3B", "best": best}))
    stages = plan("--rates", "tune.json", "--flops", "1e12")
    assert stages["traces"]["seconds"] == pytest.approx(480 / 7)
    assert stages["traces"]["memory_bytes"] == {"weights on the server": 6_000_000_000}
    assert not stages["traces"]["missing"]  # the server has it
    assert stages["train_lm"]["seconds"] == pytest.approx(6 * 134_515_008 * 18 * 8 * 100 / 1e12)
    write(project, PARAMS | {"train_lm": {"student": "org/Student-7B"}})
    assert any("org/Student-7B: not on this machine" in line for line in plan()["train_lm"]["missing"])


def test_what_is_wrong_or_missing_is_named(project: Path, capsys: pytest.CaptureFixture[str]):
    write(project, PARAMS | {"traces": {"backend": "scripted", "n_word": 3}, "train_lm": {"needs_cuda": True}})
    (project / "raw" / "heldout.jsonl").unlink()
    stages = plan(code=2)
    assert stages["traces"]["problems"] == ["traces.n_word: unknown parameter; did you mean n_words?"]
    assert stages["prompts_heldout"]["missing"] == ["--raw raw/heldout.jsonl: not there, and no stage makes it"]
    said = capsys.readouterr().out
    assert "did you mean n_words?" in said and "raw/heldout.jsonl: not there" in said


def test_rows_may_be_said(project: Path):
    assert plan("--rows", "prompts=1000")["traces"]["requests"] == 4000
    assert main(["plan", "--rows", "prompt=1"]) == 2
    assert main(["plan", "--rows", "prompts=many"]) == 2


@pytest.mark.parametrize("profile", ["params.yaml", "params.full.yaml"])
def test_the_profiles_of_this_repository_are_valid(
    profile: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every stage of dvc.yaml, one of a `foreach` by itself."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "plan.json"
    assert main(["plan", "--params", str(root / profile), "--pipeline", str(root / "dvc.yaml"), "--out", str(out)]) == 0
    names = [one["name"] for one in json.loads(out.read_text())["stages"]]
    written = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert len(names) == sum(len(one.get("foreach", [1])) for one in written.values())
    assert {"train_lm@distilled", "condense_images@difficulty_aligned", "report"} <= {*names}
