"""The benchmark of drafts on a tiny target; oracle: acceptance on the texts that it kept, by passes of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.students_drafts import ARMS, main
from tests.tiny_model import write_tiny_model
from trainers.draft_models import acceptances

N_POOL, N_HELD_OUT = 6, 3


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")
    target = write_tiny_model(tmp_path / "target")
    questions = [{"question": f"What is {i} and {i}?", "answer": f"{2 * i}"} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    sizes = ["--pool", f"{N_POOL}", "--held-out", f"{N_HELD_OUT}", "--tokens", "8", "--layers", "2", "--steps", "2"]
    where = ["--target", str(target), "--data", str(tmp_path), "--work", str(tmp_path / "work")]

    def run(*more: str) -> dict[str, Any]:
        main([*where, *sizes, "--texts-a-step", "2", "--seeds", "0", "1", "--out", str(tmp_path / "out.json"), *more])
        return json.loads((tmp_path / "out.json").read_text())

    return run


def test_figures_are_of_the_held_out_texts(measure: Callable[..., dict[str, Any]], tmp_path: Path):
    """And a start of all the target's layers is the target: all is kept."""
    told = measure("--loop-prompts", "2", "--loop-arm", "supervised")
    assert set(told["cells"]) == {"before", *ARMS}
    assert told["cells"]["before"]["acceptance"] == pytest.approx(1, abs=1e-5)
    assert told["cells"]["supervised"]["acceptance"]["mean"] < 0.95
    (folder,) = (tmp_path / "work").glob("supervised-0-*")
    draft: Any = AutoModelForCausalLM.from_pretrained(folder / "draft").eval()
    target: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "target").eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "target")
    (texts,) = (tmp_path / "work").glob(f"texts-*-8-0-{N_POOL + N_HELD_OUT}.json")
    answers = json.loads(texts.read_text())[N_POOL:]
    seed = told["seeds"]["supervised"][0]
    assert [size for size, _, _ in seed["texts"]] == [len(answer) for answer in answers]
    rows = [json.loads(line)["prompt"] for line in (tmp_path / "work" / "held_out.jsonl").read_text().splitlines()]
    for question, answer, (_, kept, _) in zip(rows, answers, seed["texts"], strict=False):
        prompt = tokenizer(f"<s>user: {question}\nassistant: ", add_special_tokens=False)["input_ids"]
        assert float(acceptances(target, [draft], [*prompt, *answer], len(prompt), 1.0).sum()) == pytest.approx(
            kept, rel=1e-4
        )
    loop = told["loop"]
    assert loop["n_prompts"] == 2 and loop["greedy"]["draft"]["n_equal_but_for_rounding"] == 2
    assert loop["greedy_alone_cpu_seconds"] > 0


def test_it_goes_on_where_it_was(measure: Callable[..., dict[str, Any]], tmp_path: Path):
    """A second run trains nothing, and a further arm joins those that are there."""
    few = ["--loop-prompts", "0", "--arms", "supervised"]
    first = measure(*few)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*") if file.is_file()}
    assert measure(*few) == first
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*") if file.is_file()} == times
    more = measure(*few, "total_variation_pp")
    assert more["seeds"]["supervised"] == first["seeds"]["supervised"] and len(more["cells"]) == 3


def test_too_few_questions_are_said(measure: Callable[..., dict[str, Any]]):
    with pytest.raises(SystemExit, match="12 questions of 90 tokens or fewer, not 40"):
        measure("--pool", "37")
