"""Oracles: runs of the pipeline's own stages, and figures by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from datagen.cli import main
from datagen.contracts.version import installed_version

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
    (tmp_path / "dvc.yaml").write_text((root / "datagen" / "init" / "project" / "dvc_yaml").read_text())
    write(tmp_path, PARAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    return tmp_path


def write(project: Path, params: dict[str, Any]) -> None:
    all_of_it = {
        "prompts_heldout": {"method": "user_rows"},
        "report": {},
        "datastill": {"version": installed_version()},
        **params,
    }
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
    assert stages["traces"]["seconds_from"].startswith("at most: every answer of 10 tokens")
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


def write_raw(project: Path, n: int, text: str = "a") -> None:
    rows = [{"id": f"prompts{i}", "prompt": text * 36, "reference": "b"} for i in range(n)]
    (project / "raw" / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_to_verify() -> None:
    run("prompts", "--raw", "raw/prompts.jsonl", "--out", "data/prompts")
    run("traces", "--prompts", "data/prompts", "--out", "data/traces")
    run("verify", "--traces", "data/traces", "--out", "data/verified")


def test_other_raw_rows_are_planned_anew(project: Path):
    """600 rows in place of the 12 that ran: 50 times as many of everything, though no parameter has changed."""
    run_to_verify()
    seconds = json.loads(Path("metrics/prompts.run.json").read_text())["seconds"]
    write_raw(project, 600)
    stages = plan()
    assert [stages[name]["rows"] for name in ("prompts", "traces", "verify")] == [600, 2400, 2400]
    assert stages["traces"]["requests"] == 2400
    assert stages["prompts"]["seconds"] == pytest.approx(50 * seconds)


def test_raw_rows_of_another_content_are_planned_anew(project: Path):
    """As many rows as before; of their answers, which are others, all may be verified."""
    run_to_verify()
    kept = json.loads(Path("data/verified/manifest.json").read_text())["rows"]["out"]
    assert plan()["verify"]["rows"] == kept < 48
    write_raw(project, 12, "c")
    assert plan()["verify"]["rows"] == 48


def test_rows_that_are_said_go_on_to_later_stages(project: Path):
    run_to_verify()
    stages = plan("--rows", "prompts=1000")
    assert (stages["traces"]["requests"], stages["traces"]["rows"], stages["verify"]["rows"]) == (4000, 4000, 4000)
    assert stages["train_lm"]["steps"] == 1500
    kept = json.loads(Path("data/verified/manifest.json").read_text())["rows"]["out"]
    assert plan("--rows", "prompts=12")["verify"]["rows"] == kept  # as it is


@pytest.mark.parametrize(
    ("section", "content", "said"),
    [
        ("datastill", {"version": "9.9.9"}, "datastill.version: the project is of another version"),
        ("verfy", {"method": "short_answer"}, "verfy: "),
        ("train_lm_other", {"epoch": 1}, "train_lm_other.epoch: unknown parameter"),
    ],
)
def test_sections_that_no_step_names_are_checked(
    section: str, content: dict[str, Any], said: str, project: Path, capsys: pytest.CaptureFixture[str]
):
    """Every stage refuses such a file."""
    write(project, PARAMS | {section: content})
    plan(code=2)
    assert said in capsys.readouterr().out
    (wrong,) = json.loads(Path("plan.json").read_text())["wrong"]
    assert wrong.startswith(said)
    run = ["prompts", "--params", "params.yaml", "--raw", "raw/prompts.jsonl", "--out", "data/prompts"]
    assert main(run) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("cap", "n_steps"), [(1, 2), (3, 5), (4, 6), (9, 6)])
def test_steps_are_of_the_rows_that_the_trainer_takes_of_a_prompt(cap: int, n_steps: int, project: Path):
    """12 prompts with 4 answers each, batches of 8."""
    train = PARAMS["train_lm"] | {"max_rows_per_prompt": cap, "epochs": 1}
    write(project, PARAMS | {"train_lm": train})
    assert plan()["train_lm"]["steps"] == n_steps


@pytest.mark.parametrize(
    ("method", "n_a_prompt"),
    [
        ({"method": "n_samples", "samples_per_prompt": 4}, 2),  # 3 and 1
        ({"method": "n_samples", "samples_per_prompt": 6}, 2),
        ({"method": "n_samples", "samples_per_prompt": 1}, 1),
        ({"method": "until_verified", "max_attempts": 8, "round_size": 6}, 3),  # 3, 3 and 2
        ({"method": "until_verified", "max_attempts": 9, "round_size": 3}, 3),
    ],
)
def test_a_request_is_of_one_prompt(method: dict[str, Any], n_a_prompt: int, project: Path):
    server = {"backend": "openai_api", "base_url": "http://127.0.0.1:9/v1", "model": "m", "choices_per_request": 3}
    write(project, PARAMS | {"traces": method | server})
    traces = plan("--prompt-tokens", "20")["traces"]
    assert (traces["requests"], traces["prompt_tokens"]) == (12 * n_a_prompt, 12 * n_a_prompt * 20)


def test_prompt_tokens_are_of_the_raw_rows_until_there_are_prompts(project: Path, capsys: pytest.CaptureFixture[str]):
    """36 bytes are 9 tokens, and 4 of the message; after a run, of other rows of 144 bytes 36 and 4."""
    stages = plan()
    assert (stages["traces"]["prompt_tokens"], stages["evaluate_lm"]["prompt_tokens"]) == (48 * 13, 10 * 13)
    (total,) = [line.split() for line in capsys.readouterr().out.splitlines() if "7 stages" in line]
    assert total[2:8] == ["58", "of", "2", "754", "of", "2"]
    assert total[-3] == f"{stages['traces']['cost']:.2f}" and total[-2:] == ["of", "1"]  # traces alone has prices
    run("prompts", "--raw", "raw/prompts.jsonl", "--out", "data/prompts")
    write_raw(project, 12, "aaaa")
    assert plan()["traces"]["prompt_tokens"] == 48 * 40


def test_the_cache_of_a_server_holds_prompts_too(project: Path):
    """16 at once, each of 13 or 20 tokens and 10 more, 11,520 numbers a token, of 2 bytes."""
    server = {"backend": "openai_api", "base_url": "http://127.0.0.1:9/v1", "model": "smollm2-135m-instruct"}
    write(project, PARAMS | {"traces": {"max_new_tokens": 10, **server}})
    for arguments, n_tokens in (((), 23), (("--prompt-tokens", "20"), 30)):
        traces = plan(*arguments)["traces"]
        assert traces["memory_bytes"]["KV cache of 16 on the server"] == 16 * n_tokens * 11520 * 2
        assert any("KV cache by the mean" in note for note in traces["notes"])
    (project / "raw" / "prompts.jsonl").unlink()
    traces = plan()["traces"]
    assert "KV cache of 16 on the server" not in traces["memory_bytes"]
    assert any("KV cache unknown" in note for note in traces["notes"])


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
