"""Oracles: three teachers whose every answer is known; a scoring model to which all 259 tokens are as likely."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from datagen.contracts.dataset import DatasetWriter, content_hash, read_manifest
from datagen.contracts.records import Prompt, Rejection, Trace, Verdict
from datagen.contracts.stage import main
from datagen.report.figures import ALL
from datagen.stages.compare_teachers import STAGE
from tests.tiny_model import write_tiny_model

FAMILY = {"p0": "sum", "p1": "sum", "p2": "story", "p3": "story"}
ANSWERS: dict[str, list[tuple[str, str, bool]]] = {  # prompt, answer, whether it holds; in order of attempts
    "short": [("p0", "4", True), ("p0", "5", False), ("p1", "6", False), ("p1", "6", False),
              ("p2", "once upon a time", True)],
    "long": [("p0", "It is 4.", False), ("p0", "It is 4!", True), ("p1", "It is 6.", True), ("p2", "x" * 41, False)],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")


@pytest.fixture
def scorer(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "silent", silent=True)


def write_teacher(
    root: Path, name: str, answers: Sequence[tuple[str, str, bool]], unanswered: Mapping[str, str] | None = None
) -> None:
    """`traces/NAME` and `verified/NAME`; `unanswered` is id of an attempt to reason."""
    seen: dict[str, int] = {}
    rows: list[tuple[Trace, bool]] = []
    for prompt_id, text, holds in answers:
        index = seen[prompt_id] = seen.get(prompt_id, -1) + 1
        prompt = Prompt(id=prompt_id, messages=[{"role": "user", "content": "Well?"}], family=FAMILY[prompt_id])
        id = f"{prompt_id}#{index}.{len(name):08x}"
        rows.append((Trace(id=id, prompt=prompt, sample_index=index, completion=text, n_prompt_tokens=10,
                           n_completion_tokens=len(text)), holds))  # fmt: skip
    with DatasetWriter(root / "traces" / name, Trace, {"stage": "traces", "method": "n_samples"}) as writer:
        for trace, _ in rows:
            writer.read()
            writer.write(trace)
        for id, reason in (unanswered or {}).items():
            writer.read()
            writer.reject(Rejection(id=id, stage="traces", reason=reason, detail="nothing"))
    tables = {"verdicts": Verdict, "rejected": Trace}
    made_of = {"stage": "verify", "inputs": {"traces": content_hash(root / "traces" / name)}}
    with DatasetWriter(root / "verified" / name, Trace, made_of, tables) as writer:
        for trace, holds in rows:
            writer.read()
            status = "pass" if holds else "fail"
            writer.add("verdicts", Verdict(id=trace.id, method="by hand", status=status, score=float(holds)))
            if holds:
                writer.write(trace)
            else:
                writer.reject(Rejection(id=trace.id, stage="verify", reason="wrong", detail="wrong"))
                writer.add("rejected", trace)


def compare(root: Path, scorer: Path, *settings: str, traces: bool = False, out: str = "out") -> int:
    arguments = ["--verified", str(root / "verified"), "--out", str(root / out), "--metrics", str(root / f"{out}.json")]
    more = ["--traces", str(root / "traces")] if traces else []
    return main(STAGE, [*arguments, *more, "--set", f"model={scorer}", *settings])


def test_the_figures_of_two_teachers(tmp_path: Path, scorer: Path):
    """Short: 2 of 5 hold, 2 of 3 prompts; long: 2 of 4, 2 of 3. A byte is a token, and every perplexity 259."""
    for name, answers in ANSWERS.items():
        write_teacher(tmp_path, name, answers)
    assert compare(tmp_path, scorer, "prices={long: {prompt: 1, completion: 1}}") == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    short, long = metrics["teachers"]["short"], metrics["teachers"]["long"]
    assert (short["verified_rate"], long["verified_rate"]) == (0.4, 0.5)
    assert (short["n_solved"], short["n_unsolved"], long["by_attempt"]) == (2, 1, {"1": 1, "2": 1})
    assert short["tokens_mean"] == (1 + 1 + 1 + 1 + 16) / 5 and long["tokens_mean"] == (8 * 3 + 41) / 4
    assert short["perplexity"] == long["perplexity_trace_mean"] == pytest.approx(259, rel=1e-5)
    assert short["n_above_max_perplexity"] == 5 and long["n_looping"] == 1  # 41 times one letter: 22 equal 20-grams
    assert long["repeated_share"] == pytest.approx((37 / 38) / 4, abs=1e-4)
    assert long["cost_per_verified"] == pytest.approx((4 * 10 + 65) / 1e6 / 2) and short["cost"] is None
    order = metrics["orderings"]["verified_rate"]
    assert order["overall"] == ["short", "long"] and order["families"]["story"]["flipped"] == [["long", "short"]]
    assert (order["n_agree"], order["n_families"]) == (1, 2)
    rows = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert {(row["teacher"], row["family"]) for row in rows} == {(t, f) for t in ANSWERS for f in (ALL, "sum", "story")}
    measured = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert (
        len(measured) == 9 and measured["verified"].sum() == 4 and metrics["rows"] == {"in": 9, "out": 9, "rejected": 0}
    )


def test_an_empty_answer_is_an_attempt_and_a_lost_request_is_none(tmp_path: Path, scorer: Path):
    """Long said nothing at p2 once more, and its server fell over at p0."""
    write_teacher(tmp_path, "short", ANSWERS["short"])
    write_teacher(tmp_path, "long", ANSWERS["long"], {"p2#1.00000001": "empty_answer", "p0#2.00000001": "http_500"})
    assert compare(tmp_path, scorer, traces=True) == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert (metrics["teachers"]["long"]["n_attempts"], metrics["teachers"]["long"]["n_unanswered"]) == (5, 1)
    assert metrics["teachers"]["long"]["verified_rate"] == 0.4
    assert metrics["by_family"]["long"]["story"]["n_attempts"] == 2


def test_only_prompts_that_everyone_was_asked_are_compared(tmp_path: Path, scorer: Path):
    """Of short p3 was asked too; it is a rejection, and no figure knows of it."""
    write_teacher(tmp_path, "short", [*ANSWERS["short"], ("p3", "more", True)])
    write_teacher(tmp_path, "long", ANSWERS["long"])
    assert compare(tmp_path, scorer) == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["rejected"] == {"not_asked_of_all": 1} and metrics["teachers"]["short"]["verified_rate"] == 0.4


def test_equal_inputs_give_equal_bytes(tmp_path: Path, scorer: Path):
    for name, answers in ANSWERS.items():
        write_teacher(tmp_path, name, answers)
    assert compare(tmp_path, scorer, out="one") == compare(tmp_path, scorer, out="two") == 0
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in ("one", "two"))
    assert first == second
    held = read_manifest(tmp_path / "one")
    assert {"figures.json", "histogram.json", "orderings.json", "index.html"} < held["files"].keys()
    assert set(held["inputs"]) == {"verified/long", "verified/short"} and held["scorer"]["model"] == "silent"


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (["prices={nobody: {prompt: 1, completion: 1}}"], 2, "prices: no teacher nobody; there are long, short"),
        (["prices={long: {prompt: -1, completion: 1}}"], 2, "prices.long.prompt: Input should be greater than"),
        (["max_perplexity=0"], 2, "max_perplexity"),
    ],
)
def test_bad_parameters(
    tmp_path: Path, scorer: Path, settings: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    for name, answers in ANSWERS.items():
        write_teacher(tmp_path, name, answers)
    assert compare(tmp_path, scorer, *settings) == code
    assert said in capsys.readouterr().err


def test_traces_are_those_that_were_verified(tmp_path: Path, scorer: Path, capsys: pytest.CaptureFixture[str]):
    """Those of another run, with one more empty answer, are refused; both folders and the remedy are named."""
    for name, answers in ANSWERS.items():
        write_teacher(tmp_path, name, answers)
    write_teacher(tmp_path / "other", "long", ANSWERS["long"], {"p2#1.00000001": "empty_answer"})
    shutil.rmtree(tmp_path / "traces" / "long")
    (tmp_path / "other" / "traces" / "long").rename(tmp_path / "traces" / "long")
    assert compare(tmp_path, scorer, traces=True) == 3
    said = capsys.readouterr().err
    assert f"{tmp_path / 'verified' / 'long'}: not made of {tmp_path / 'traces' / 'long'}" in said
    assert "run verify on these traces again" in said and not (tmp_path / "out").exists()
    assert compare(tmp_path, scorer) == 0


def test_bad_inputs(tmp_path: Path, scorer: Path, capsys: pytest.CaptureFixture[str]):
    """No teacher at all; one that was never judged; two without a prompt in common."""
    (tmp_path / "verified").mkdir()
    assert compare(tmp_path, scorer) == 3
    assert "holds no dataset directory" in capsys.readouterr().err
    write_teacher(tmp_path, "long", [("p0", "4", True)])
    write_teacher(tmp_path, "short", [("p1", "4", True)])
    assert compare(tmp_path, scorer) == 3
    assert "no prompt was asked of all of long, short" in capsys.readouterr().err
    (tmp_path / "traces" / "long").rename(tmp_path / "verified" / "longer")
    assert compare(tmp_path, scorer) == 3
    assert "not written by the verify stage" in capsys.readouterr().err
