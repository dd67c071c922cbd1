"""By the stage's own command, with tiny models. Oracles: train_lm's own weights, means and counts by hand, files."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from datagen.contracts.stage import main
from tests.domain_texts import LETTERS, write_texts
from trainers.domain_proxies import Proxy, open_bench, parse
from trainers.domain_proxies import learn as learn_weights
from trainers.stages.domain_weights import STAGE
from trainers.stages.train_lm import STAGE as TRAIN

NAMES = sorted(LETTERS)
SETTINGS = ("n_threads=1", "batch_size=6", "micro_batch_tokens=96", "learning_rate=0.003", "steps=5", "mixture_every=2")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


def learn(tiny: Path, folder: Path, *settings: str, code: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metrics, and the rows that are plotted."""
    data, heldout = write_texts(folder / "texts")
    out, metrics = folder / "out", folder / "out.json"
    given = ["--data", str(data), "--heldout", str(heldout), "--out", str(out), "--metrics", str(metrics)]
    assert main(STAGE, [*given, "--set", f"student={tiny}", *SETTINGS, *settings]) == code
    if code:
        return {}, []
    return json.loads(metrics.read_text()), json.loads((out / "curves.json").read_text())


def test_ddk_s_weights_are_those_of_a_training_with_it(tiny: Path, tmp_path: Path):
    """Oracle: train_lm with the same rule, seed and rows, which then takes the file that was written."""
    metrics, curves = learn(tiny, tmp_path, "mixture=ddk", f"reference={tiny}")
    written = json.loads((tmp_path / "out" / "weights.json").read_text())["weights"]
    assert written == metrics["weights"] and sum(written.values()) == pytest.approx(1, abs=1e-12)
    data, heldout = tmp_path / "texts" / "train.jsonl", tmp_path / "texts" / "heldout.jsonl"
    given = ["--data", str(data), "--out", str(tmp_path / "student"), "--metrics", str(tmp_path / "student.json")]
    more = ["--set", f"student={tiny}", *SETTINGS]
    of_rule = [*more, "mixture=ddk", f"reference={tiny}"]
    assert main(TRAIN, [*given, "--heldout", str(heldout), *of_rule]) == 0
    trained = json.loads((tmp_path / "student.json").read_text())
    assert trained["mixture"]["weights"] == written
    assert (metrics["n_proxies"], metrics["proxy_steps"]) == (1, 5)
    assert metrics["proxy_tokens"] == trained["n_tokens_learned"] == 5 * 6 * 11
    assert metrics["n_tokens_measured"] == trained["mixture"]["n_tokens_measured"] + 22 * 11
    records = json.loads((tmp_path / "student" / "loss.json").read_text())
    for step in (0, 2, 4):
        for row in [row for row in curves if row["step"] == step]:
            record = records[step]
            assert row["weight"] == record[f"weight/{row['domain']}"]
            gap = record[f"student_loss/{row['domain']}"] - record[f"reference_loss/{row['domain']}"]
            assert row["gap"] == gap
    assert [row["step"] for row in curves] == [step for step in (0, 2, 4, 5) for _ in NAMES]
    table = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert table["id"].to_list() == NAMES and table["n_tokens"].to_list() == [66, 66, 22]
    weights = str(tmp_path / "out" / "weights.json")
    settings = [one for one in more if "mixture" not in one]
    assert main(TRAIN, [*given[:2], "--out", str(tmp_path / "mixed"), "--weights", weights, *settings]) == 0


def test_doremi_takes_a_reference_and_a_proxy_and_means_the_updates(tiny: Path, tmp_path: Path):
    """Both proxies' steps count; by hand the mean of the weights after each update, not those to begin with."""
    metrics, curves = learn(tiny, tmp_path, "mixture=doremi", "mixture_every=1", "step_size=30")
    assert (metrics["n_proxies"], metrics["proxy_steps"], metrics["proxy_tokens"]) == (2, 10, 2 * 5 * 6 * 11)
    for name in NAMES:
        updates = [row["weight"] for row in curves if row["domain"] == name and row["step"] in range(1, 5)]
        assert metrics["weights"][name] == pytest.approx(sum(updates) / 4, rel=1e-9)
    assert all(row["weight"] == pytest.approx(1 / 3) for row in curves if row["step"] == 0)
    assert len({round(row["weight"], 6) for row in curves}) > 5


def test_regression_takes_short_runs_that_are_kept(tiny: Path, tmp_path: Path):
    """Four runs of five steps; one that was stopped after two trains the other two, and gives the same weights."""
    given = ["mixture=regression_mix", "n_runs=4", "n_candidates=500", "n_best=10"]
    metrics, curves = learn(tiny, tmp_path / "whole", *given)
    assert (metrics["n_proxies"], metrics["proxy_steps"]) == (4, 20)
    assert metrics["n_tokens_measured"] == 4 * 22 * 11 and "law_explained" in metrics
    assert sorted({row["step"] for row in curves}) == [0, 1, 2, 3]
    drawn = [sum(row["weight"] for row in curves if row["step"] == step) for step in range(4)]
    assert drawn == pytest.approx([1] * 4)
    assert [row["weight"] for row in curves[:3]] == pytest.approx([3 / 7, 3 / 7, 1 / 7])  # of the tokens
    section = {"student": str(tiny), "mixture": "regression_mix", "n_runs": 4, "n_candidates": 500, "n_best": 10}
    params = parse(section | {name: yaml.safe_load(value) for name, value in (one.split("=") for one in SETTINGS)})
    data, heldout = tmp_path / "whole" / "texts" / "train.jsonl", tmp_path / "whole" / "texts" / "heldout.jsonl"
    kept = tmp_path / "kept"

    def stop(proxy: Proxy) -> None:
        if proxy.name == "run-1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_weights(open_bench(params, data, heldout, kept), kept, stop)
    before = {file.name: file.stat().st_mtime_ns for file in kept.glob("proxy-*.json")}
    assert sorted(before) == ["proxy-run-0.json", "proxy-run-1.json"]
    mix, proxies, _ = learn_weights(open_bench(params, data, heldout, kept), kept, lambda _: None)
    assert dict(zip(NAMES, mix.weights, strict=True)) == metrics["weights"] and len(proxies) == 4
    assert all((kept / name).stat().st_mtime_ns == at for name, at in before.items())
    assert [file.name for file in (tmp_path / "home").glob("checkpoints/*/*")] == ["lock"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ([], "mixture: required, and not given"),
        (["mixture=uniform"], "mixture: uniform follows from the sizes alone; give it to train_lm or mix as it is"),
        (["mixture=ddk"], "mixture: ddk compares the proxy with another model; set teacher=MODEL, or reference"),
        (["mixture=doremi", "reference=R"], "reference: doremi trains its own; leave it out"),
        (["mixture=online_mixing", "n_runs=9"], "n_runs: of regression_mix"),
        (["mixture=online_mixing", "judge_every=1"], "judge_every: a proxy takes all its steps"),
        (
            ["mixture=online_mixing", "mixture_every=5"],
            "mixture_every: the proxy takes 5 steps and its weights are renewed",
        ),
    ],
)
def test_weights_that_cannot_be_learned(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], says: str
):
    learn(tiny, tmp_path, *settings, code=2)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", ["DATASTILL_PROCESSES", "DATASTILL_SHARD"])
def test_several_processes_are_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
):
    monkeypatch.setenv(name, "2" if name == "DATASTILL_PROCESSES" else "1")
    learn(tiny, tmp_path, "mixture=ddk", f"reference={tiny}", code=2)
    assert "unset $DATASTILL_PROCESSES and $DATASTILL_SHARD" in capfd.readouterr().err
