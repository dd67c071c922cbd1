"""Oracle: GSM8K's own answers, wrong references planted among them, and votes made by hand."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.contracts.dataset import DatasetWriter, read_manifest
from datagen.contracts.records import Prompt, Trace
from datagen.contracts.stage import main
from datagen.prompts.gsm8k import Config, gsm8k
from datagen.stages.repair_references import STAGE

N_PLANTED = 20  # every tenth row of the slice


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def truth(root: Path) -> list[Prompt]:
    """The slice's 200 prompts with their official answers."""
    rows = gsm8k(Config(method="gsm8k", n_prompts=200), root / "data" / "raw")
    return [row for row in rows if isinstance(row, Prompt)]


def write(out: Path, record: type[Prompt] | type[Trace], rows: Sequence[Prompt | Trace]) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    with DatasetWriter(out, record, {"stage": "by hand", "inputs": {}}) as writer:
        for row in rows:
            writer.read()
            writer.write(row)
    return out


def write_votes(folder: Path, votes: Mapping[str, Sequence[tuple[Prompt, str]]], **more: Any) -> Path:
    """Teacher to (prompt, what it answers) in order."""
    for teacher, given in votes.items():
        rows = [
            Trace(id=f"{prompt.id}#{i}.0000000{teacher[-1]}", prompt=prompt, completion=text, teacher=teacher, **more)
            for i, (prompt, text) in enumerate(given)
        ]
        write(folder / teacher, Trace, rows)
    return folder


def repair(tmp_path: Path, prompts: Path, teachers: Path, second: Path | None, *settings: str) -> dict[str, Any]:
    arguments = ["--prompts", str(prompts), "--teachers", str(teachers), "--out", str(tmp_path / "repaired")]
    arguments += ["--metrics", str(tmp_path / "repaired.json"), *(["--second", str(second)] if second else [])]
    assert main(STAGE, [*arguments, *(["--set", *settings] if settings else [])]) == 0
    return json.loads((tmp_path / "repaired.json").read_text())


def after(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pl.read_parquet(tmp_path / "repaired" / "part-*.parquet").to_dicts()}


def add(prompt: Prompt, n: int) -> str:
    assert prompt.reference
    return str(int(prompt.reference.replace(",", "")) + n)


def test_exactly_the_planted_references_are_repaired(tmp_path: Path, truth: list[Prompt]):
    """20 wrong references among 200; on 20 others all teachers make one mistake, on 20 more they tie."""
    planted = {prompt.id for prompt in truth[::10]}
    misled, tied = {prompt.id for prompt in truth[1::10]}, {prompt.id for prompt in truth[2::10]}
    assert len(planted) == N_PLANTED
    given = [replace(p, reference=add(p, 1)) if p.id in planted else p for p in truth]
    votes: dict[str, list[tuple[Prompt, str]]] = {"teacher_a": [], "teacher_b": []}
    for prompt, official in zip(given, truth, strict=True):
        right, wrong = f"So it is {official.reference}.\n#### {official.reference}", f"#### {add(official, 7)}"
        says = (wrong, wrong) if prompt.id in misled else (right, wrong) if prompt.id in tied else (right, right)
        votes["teacher_a"] += [(prompt, says[0]), (prompt, rf"\boxed{{{says[0].split('#### ')[1]}}}")]
        votes["teacher_b"] += [(prompt, says[1]), (prompt, f"The answer is {says[1].split('#### ')[1]}.")]
    prompts = write(tmp_path / "prompts", Prompt, given)
    second = write(tmp_path / "second", Prompt, truth)
    metrics = repair(tmp_path, prompts, write_votes(tmp_path / "teachers", votes), second)
    repaired = after(tmp_path)
    assert {id: row["reference"] for id, row in repaired.items()} == {p.id: p.reference for p in truth}
    assert {id for id, row in repaired.items() if row["info"]} == planted
    cases = {name: n for name, n in metrics["cases"].items() if n}
    assert cases == {"repaired": 20, "second_disagrees": 20, "tie": 20, "agrees": 140}
    assert metrics["rows"] == {"in": 200, "out": 200, "rejected": 0}


def test_a_repaired_row_says_so(tmp_path: Path, truth: list[Prompt]):
    """In `info`, in the table, and to `datastill why`."""
    official = truth[0]
    wrong = replace(official, reference=add(official, 1), info='{"level": 3}')
    says = f"#### {official.reference}"
    teachers = write_votes(tmp_path / "data" / "teachers", {"teacher_a": [(wrong, says)] * 3})
    prompts = write(tmp_path / "data" / "prompts", Prompt, [wrong])
    second = write(tmp_path / "data" / "official", Prompt, [official])
    repair(tmp_path / "data", prompts, teachers, second)
    row = after(tmp_path / "data")[official.id]
    said = {
        "old_reference": wrong.reference, "new_reference": official.reference, "n_majority": 3, "n_votes": 3,
        "votes": {"teacher_a": {official.reference: 3}}, "second": official.reference, "second_source": "official",
    }  # fmt: skip
    assert json.loads(row["info"]) == {"level": 3, "reference_repair": said}
    shown = subprocess.run(
        [Path(sys.executable).with_name("datastill"), "why", official.id],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert f"{wrong.reference} became {official.reference}" in " ".join(shown.split())
    assert "3 of 3 votes" in " ".join(shown.split()) and "official" in shown


def test_without_a_second_source_no_reference_is_replaced(tmp_path: Path, truth: list[Prompt]):
    """One contradicted, one confirmed; the third has no reference, and a vote that was cut is none."""
    contradicted, confirmed, other = truth[0], truth[1], replace(truth[2], reference=None)
    votes = (
        [(contradicted, "#### 1234567")] * 3 + [(confirmed, f"#### {confirmed.reference}")] * 3 + [(other, "#### 1")]
    )
    prompts = write(tmp_path / "prompts", Prompt, [contradicted, confirmed, other])
    metrics = repair(tmp_path, prompts, write_votes(tmp_path / "teachers", {"teacher_a": votes}), None)
    assert {name: n for name, n in metrics["cases"].items() if n} == {"no_second": 1, "agrees": 1, "no_reference": 1}
    assert {row["reference"] for row in after(tmp_path).values()} == {contradicted.reference, confirmed.reference, None}


def test_an_answer_that_was_cut_is_no_vote(tmp_path: Path, truth: list[Prompt]):
    teachers = write_votes(tmp_path / "teachers", {"teacher_a": [(truth[0], "#### 5")] * 4}, finish_reason="length")
    second = write(tmp_path / "second", Prompt, [replace(truth[0], reference="5")])
    metrics = repair(tmp_path, write(tmp_path / "prompts", Prompt, truth[:1]), teachers, second)
    assert metrics["cases"]["too_few_votes"] == 1


def test_answers_are_the_same_by_exact_arithmetic_and_math_verify(tmp_path: Path):
    """Three spellings of a half, and x(x + 1) multiplied out; the references are wrong, the second source is right."""
    half = Prompt(id="half", messages=[{"role": "user", "content": "half?"}], reference="2")
    expand = Prompt(id="expand", messages=[{"role": "user", "content": "expand x(x+1)"}], reference="x^2")
    votes = [(half, "#### 1/2"), (half, r"\boxed{\frac{1}{2}}"), (half, "The answer is 0.5.")]
    votes += [(expand, r"\boxed{x^2+x}"), (expand, r"\boxed{x(x+1)}"), (expand, r"\boxed{x+x^2}")]
    second = tmp_path / "second.jsonl"
    rows = [{"prompt": "half?", "reference": "50%"}, {"prompt": "expand x(x+1)", "reference": "x(1+x)"}]
    second.write_text("".join(json.dumps(row) + "\n" for row in rows))  # no ids: they are found by their text
    metrics = repair(
        tmp_path,
        write(tmp_path / "prompts", Prompt, [half, expand]),
        write_votes(tmp_path / "teachers", {"teacher_a": votes}),
        second,
    )
    assert metrics["cases"]["repaired"] == 2
    assert {id: row["reference"] for id, row in after(tmp_path).items()} == {"half": "1/2", "expand": "x^2+x"}


def test_a_model_as_second_source_has_to_be_another_one(
    tmp_path: Path, truth: list[Prompt], capsys: pytest.CaptureFixture[str]
):
    """A teacher that is asked again confirms nothing; another model does, by the majority of its own answers."""
    wrong = replace(truth[0], reference=add(truth[0], 1))
    says = [(wrong, f"#### {truth[0].reference}")] * 3
    prompts = write(tmp_path / "prompts", Prompt, [wrong])
    teachers = write_votes(tmp_path / "teachers", {"teacher_a": says})
    write_votes(tmp_path / "others", {"judge_1": [*says[:2], (wrong, "#### 8")]})
    assert repair(tmp_path, prompts, teachers, tmp_path / "others" / "judge_1")["cases"]["repaired"] == 1
    assert read_manifest(tmp_path / "repaired")["second_source"] == "judge_1"
    arguments = ["--prompts", str(prompts), "--teachers", str(teachers), "--out", str(tmp_path / "no")]
    assert main(STAGE, [*arguments, "--second", str(teachers / "teacher_a")]) == 3
    assert "teacher_a votes as teacher teacher_a too" in capsys.readouterr().err
    assert main(STAGE, [*arguments, "--second", str(prompts)]) == 3
    assert "the prompts' own references" in capsys.readouterr().err


def test_a_second_source_with_ids_of_its_own_is_read_by_what_is_asked(tmp_path: Path):
    """It numbers the same two prompts the other way round; by their ids each would have the other's answer."""
    asked = [
        Prompt(id=id, messages=[{"role": "user", "content": text}], reference="9")
        for id, text in (("1", "3 + 4"), ("2", "4 + 4"))
    ]
    other = [replace(asked[0], id="2", reference="7"), replace(asked[1], id="1", reference="8")]
    right = [(prompt, text) for prompt, text in zip(asked, ("7", "8"), strict=True) for _ in range(3)]
    prompts = write(tmp_path / "prompts", Prompt, asked)
    second = write(tmp_path / "second", Prompt, other)
    found = repair(tmp_path, prompts, write_votes(tmp_path / "teachers", {"t1": right}), second)
    assert found["cases"]["repaired"] == 2
