"""The stage `filter`: every row of every kind ends as it was or as a rejection; oracle: rows written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import DatasetWriter, read_manifest
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.stage import main
from datagen.stages.filter import STAGE
from datagen.stages.verify import STAGE as VERIFY
from tests.datagen.stages.conftest import table, write

PAGE = "A page about the river that flows past the old mill and on to the sea in the south."

pytestmark = pytest.mark.usefixtures("own_home")


def run(documents: Path, out: Path, *settings: str, against: Path | None = None) -> int:
    arguments = ["--documents", str(documents), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(STAGE, [*arguments, *(["--against", str(against)] if against else []), "--set", *settings])


def test_documents_end_as_they_were_or_as_rejections(tmp_path: Path):
    """Counted by hand: two texts, one of them twice, and a line that is not JSON."""
    rows = [{"id": "a", "text": PAGE, "source": "mill", "language": "en"}, {"id": "b", "text": PAGE}, "{broken\n",
            {"text": "Another."}]  # fmt: skip
    out = tmp_path / "out"
    assert run(write(tmp_path / "pages.jsonl", rows), out, "max_rejected_share=0.5") == 0
    first, last = table(out)
    blank = {"domain": "", "licence": ""}
    assert first == {"id": "a", "text": PAGE, "source": "mill", "info": '{"language": "en"}'} | blank
    assert (last["text"], last["source"], len(last["id"])) == ("Another.", "pages.jsonl:4", 16)
    assert [(row["id"], row["stage"], row["reason"]) for row in table(out, "rejections.parquet")] == [
        ("b", "filter", "exact_duplicate"),
        ("pages.jsonl:3", "filter", "malformed_json"),
    ]
    metrics = {"rows": {"in": 4, "out": 2, "rejected": 2}, "rejected": {"exact_duplicate": 1, "malformed_json": 1}}
    assert json.loads((tmp_path / "out.json").read_text()) == metrics
    manifest = read_manifest(out)
    assert (manifest["record"], manifest["method"], manifest["stage"]) == ("Document", "near_duplicates", "filter")


def test_its_own_output_and_parquet_are_inputs_too(tmp_path: Path):
    out = tmp_path / "out"
    assert run(write(tmp_path / "pages.jsonl", [{"text": PAGE}, {"text": "Another."}]), out, "seed=1") == 0
    assert run(out, tmp_path / "again", "seed=1") == 0
    assert run(out / "part-00000.parquet", tmp_path / "file", "seed=1") == 0
    assert table(tmp_path / "again") == table(out) == table(tmp_path / "file")


def test_traces_and_prompts_stay_what_they_are(tmp_path: Path):
    """A conversation that ends on the assistant is a Trace, and its answer is not lost; another is a Prompt."""
    asked = [{"role": "user", "content": "3 + 4?"}]
    answered = [*asked, {"role": "assistant", "content": "7"}]
    assert run(write(tmp_path / "a.jsonl", [{"messages": answered}] * 2), tmp_path / "a", "seed=0") == 0
    (row,) = table(tmp_path / "a")
    assert (row["completion"], [turn["content"] for turn in row["messages"]]) == ("7", ["3 + 4?"])
    assert run(write(tmp_path / "b.jsonl", [{"messages": asked}, {"prompt": "5?"}]), tmp_path / "b", "seed=0") == 0
    assert read_manifest(tmp_path / "b")["record"] == "Prompt" and len(table(tmp_path / "b")) == 2
    turns = [{"from": "human", "value": "3 + 4?"}, {"from": "gpt", "value": "7"}]
    assert run(write(tmp_path / "c.jsonl", [{"conversations": turns}]), tmp_path / "c", "seed=0") == 0
    assert table(tmp_path / "c")[0]["completion"] == "7"


def test_a_row_of_another_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As a Prompt the second row would lose its completion."""
    rows = write(tmp_path / "mixed.jsonl", [{"prompt": "3 + 4?"}, {"prompt": "3 + 4?", "completion": "7"}])
    assert run(rows, tmp_path / "out", "seed=0") == 3
    assert "mixed.jsonl:2: the row is a Trace, and the file's first one a Prompt" in capsys.readouterr().err
    assert run(rows, tmp_path / "out", "max_rejected_share=0.5") == 0
    assert [row["reason"] for row in table(tmp_path / "out", "rejections.parquet")] == ["another_record"]


@pytest.mark.parametrize(
    ("row", "settings", "code", "message"),
    [
        ({"text": " "}, ["seed=0"], 3, "the text is empty"),
        ({"title": "x"}, ["seed=0"], 3, "no `prompt`, `messages` or `conversations`"),
        ({"text": "x"}, ["method=nothing"], 2, "no 'nothing' in datagen.filter; there are"),
        ({"text": "x"}, ["threshold=1.5"], 2, "threshold: Input should be less than or equal to 1 (got 1.5)"),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, settings: list[str], code: int, message: str
):
    assert run(write(tmp_path / "rows.jsonl", [row]), tmp_path / "out", *settings) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dataset_of_other_records_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with DatasetWriter(tmp_path / "verdicts", Verdict, {}):
        pass
    assert run(tmp_path / "verdicts", tmp_path / "out", "seed=0") == 3
    assert "holds Verdict rows, filter takes Prompt, Trace, Document, Example rows" in capsys.readouterr().err


def test_against_is_refused_where_nothing_is_compared_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = write(tmp_path / "rows.jsonl", [{"text": "x"}])
    assert run(rows, tmp_path / "out", "seed=0", against=rows) == 2
    assert "near_duplicates compares with nothing" in capsys.readouterr().err


def test_a_dataset_of_prompts_comes_out_as_it_was(tmp_path: Path):
    prompts = [
        Prompt(id=f"p{i}", messages=[{"role": "user", "content": text}], family="f", reference=str(i), info='{"a": 1}')
        for i, text in enumerate(["one", "two", "ONE"])
    ]
    with DatasetWriter(tmp_path / "prompts", Prompt, {}) as writer:
        for prompt in prompts:
            writer.read()
            writer.write(prompt)
    assert run(tmp_path / "prompts", tmp_path / "out", "seed=0") == 0
    assert table(tmp_path / "out") == table(tmp_path / "prompts")[:2]


def test_what_traces_said_of_its_attempts_is_passed_on(tmp_path: Path):
    """Through two filters to verify: who was asked, the prices and the rule that stopped; but no rate of passes."""
    params = {"price_per_million_prompt_tokens": 1.0, "price_per_million_completion_tokens": 2.0, "temperature": 0.5}
    manifest = {"stage": "traces", "method": "until_verified", "teacher": {"model": "tiny"}, "params": params}
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "3 + 4?"}], reference="7")
    with DatasetWriter(tmp_path / "traces", Trace, manifest) as writer:
        writer.read()
        writer.write(Trace(id="p#0", prompt=prompt, completion="7", n_prompt_tokens=500_000, n_completion_tokens=0))
    assert run(tmp_path / "traces", tmp_path / "one", "seed=0") == 0
    assert run(tmp_path / "one", tmp_path / "two", "seed=0") == 0
    prices = {name: value for name, value in params.items() if name.startswith("price")}
    origin = {"method": "until_verified", "teacher": {"model": "tiny"}, "prices": prices}
    assert read_manifest(tmp_path / "two")["origin"] == origin

    def verify(traces: Path, out: Path, *more: str) -> int:
        arguments = ["--traces", str(traces), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
        return main(VERIFY, [*arguments, "--set", "method=short_answer", *more])

    assert verify(tmp_path / "two", tmp_path / "verified") == 0
    metrics = json.loads((tmp_path / "verified.json").read_text())
    assert metrics["cost"]["total"] == 0.5 and "pass_at_k" not in metrics
    assert read_manifest(tmp_path / "verified")["origin"] == origin
    assert verify(tmp_path / "two", tmp_path / "again", "min_agreement=2") == 2
    assert verify(tmp_path / "traces", tmp_path / "direct") == 0
    assert "pass_at_k" in json.loads((tmp_path / "direct.json").read_text())
