"""The stage `match` from files to tables; oracles: copies and strangers planted by hand, an unbroken run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.contracts.dataset import DatasetWriter, content_hash, read_manifest
from datagen.contracts.records import Prompt, Trace
from datagen.contracts.stage import main
from datagen.stages.match import STAGE
from tests.datagen.extraction.test_matching import OTHERS, PARAPHRASES
from tests.datagen.stages.conftest import table, write

pytestmark = pytest.mark.usefixtures("own_home")
ROWS = [row for row, _ in PARAPHRASES]
SAID = [said for _, said in PARAPHRASES]


def rows(prefix: str, texts: list[str]) -> list[Any]:
    return [{"id": f"{prefix}{i}", "text": text} for i, text in enumerate(texts)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two copies, six paraphrases and two strangers of eight rows; 20 unseen texts, two of them with a paraphrase."""
    calibration = rows("u", OTHERS[4:])
    calibration[0] |= {"paraphrase": "They fixed the roof ahead of the storm."}
    calibration[1] |= {"paraphrase": "Goats are good climbers of steep cliffs."}
    return {
        "extracted": write(tmp_path / "extracted.jsonl", rows("e", ROWS[:2] + SAID[2:] + OTHERS[:2])),
        "against": write(tmp_path / "against.jsonl", rows("a", ROWS)),
        "calibration": write(tmp_path / "calibration.jsonl", calibration),
    }


def arguments(files: dict[str, Path], out: Path, *settings: str) -> list[str]:
    inputs = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    return [*inputs, "--out", str(out), "--metrics", str(out.with_suffix(".json")), "--set", *settings]


def run(files: dict[str, Path], out: Path, *settings: str) -> int:
    return main(STAGE, arguments(files, out, "false_match_rate=0.05", *settings))


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


def test_what_was_planted_is_found(files: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out"
    assert run(files, out, "n_examples=3") == 0
    found = metrics(out)
    assert found["rows"] == {"in": 10, "out": 10, "rejected": 0} and found["rejected"] == {}
    assert (found["cosine"]["extracted"], found["cosine"]["against"]) == (0.8, 1)
    assert found["edit"]["extracted"] == 0.2 <= found["indel"]["extracted"] <= 0.3 and found["cosine_over_edit"] == 4
    assert found["cosine"]["recall"] == 1 and found["cosine"]["false_extracted"] <= 0.05
    assert found["calibration"] == {"rows": 20, "paraphrases": 2, "in_extracted": 0, "not_used": {}}
    matches = table(out)
    assert [row["neighbour_id"] for row in matches[:8]] == [f"a{i}" for i in range(8)]
    assert list(matches[0]) == ["id", "neighbour_id", "cosine", "edit_similarity", "indel_similarity"]
    copy = matches[0]
    assert (copy["edit_similarity"], copy["indel_similarity"]) == (1, 1) and copy["cosine"] == pytest.approx(
        1, abs=1e-6
    )
    nearest = pl.read_parquet(out / "nearest.parquet")
    assert len(nearest) == 3 * (10 + 8)
    shares = nearest.group_by("side", "measure").agg(pl.col("matches").mean()).rows()
    for side, measure, share in shares:
        assert share == pytest.approx(found[measure][side])
    assert read_manifest(out)["embedder"]["name"] == "all-minilm-l6-v2"


def test_curves_and_pairs_for_a_person(files: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out"
    assert run(files, out, "n_examples=3") == 0
    curves = json.loads((out / "curves.json").read_text())
    assert [row["threshold"] for row in curves] == [i / 100 for i in range(101)]
    for column in curves[0].keys() - {"threshold"}:
        shares = [row[column] for row in curves]
        assert shares == sorted(shares, reverse=True) and shares[0] <= 1, column
    at_one = curves[-1]
    assert (at_one["edit_extracted"], at_one["edit_against"], at_one["edit_false_extracted"]) == (0.2, 0.25, 0)
    page = (out / "examples.md").read_text()
    sections = {part.splitlines()[0]: part for part in page.split("\n## ")[1:]}
    assert page.index("### e0 and a0") < page.index("### e1 and a1")
    alone = sections["Found by embedding, not by strings"]
    assert alone.count("### ") == 3 and "### e0" not in alone and "(match), edit 0." in alone
    assert "There is none." in sections["Found by strings, not by embedding"]


def test_rows_that_cannot_be_used_are_counted(files: dict[str, Path], tmp_path: Path):
    """Empty texts, an id that is there twice, unseen texts that were seen or are there twice."""
    extracted, against, calibration = (files[name] for name in ("extracted", "against", "calibration"))
    with extracted.open("a") as file:
        file.write('{"id": "empty", "text": " "}\n{"id": "e0", "text": "again"}\n')
    with against.open("a") as file:
        file.write('{"id": "none", "text": ""}\n')
    with calibration.open("a") as file:
        for id, text in (("seen", ROWS[3]), ("twice", OTHERS[5]), ("written", OTHERS[0])):
            file.write(json.dumps({"id": id, "text": text}) + "\n")
        file.write(json.dumps({"id": "odd", "text": "Odd.", "paraphrase": 3}) + "\n")
    out = tmp_path / "out"
    assert run(files, out, "max_rejected_share=0.2", "false_match_rate=0.1") == 0
    found = metrics(out)
    assert found["rows"] == {"in": 12, "out": 10, "rejected": 2}
    assert found["rejected"] == {"duplicate_id": 1, "empty_text": 1}
    assert found["against"] == {"rows": 8, "not_used": {"empty_text": 1}}
    not_used = {"bad_paraphrase": 1, "duplicate_text": 1, "in_against": 1}
    assert found["calibration"] == {"rows": 21, "paraphrases": 2, "in_extracted": 1, "not_used": not_used}


@pytest.mark.parametrize(
    ("texts", "settings", "said"),
    [
        (OTHERS[4:8], [], "4 unseen texts cannot tell a false-match rate of 0.05; give at least 19, or accept"),
        (OTHERS[4:] + ROWS, [], "8 of 28 texts stand in the training set as they are; a threshold is set by texts"),
        (OTHERS, [], "2 of 24 texts stand in the extracted texts as they are"),
        (OTHERS[4:], ["embedder=nothing"], "'nothing' is neither a folder nor a model of the Hub"),
        (OTHERS[4:], ["false_match_rate=0"], "false_match_rate: Input should be greater than 0 (got 0)"),
        (OTHERS[4:], ["embeder=x"], "embeder: unknown parameter"),
    ],
)
def test_what_cannot_be_compared_is_said(
    texts: list[str], settings: list[str], said: str, files: dict[str, Path], tmp_path: Path, capsys: Any
):
    write(files["calibration"], rows("u", texts))
    assert run(files, tmp_path / "out", *settings) in {2, 3}
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_traces_and_prompts_are_question_and_answer(files: dict[str, Path], tmp_path: Path):
    """A dataset of Traces against rows of Prompts with references: equal texts, so every similarity is 1."""
    asked = [Prompt(id=f"p{i}", messages=[{"role": "user", "content": text}]) for i, text in enumerate(ROWS)]
    with DatasetWriter(tmp_path / "traces", Trace, {}) as writer:
        for one in asked:
            writer.read()
            writer.write(Trace(id=f"{one.id}#0", prompt=one, completion=f"{one.id} it is."))
    prompts = [{"id": one.id, "prompt": one.text, "reference": f"{one.id} it is."} for one in asked]
    write(files["against"], prompts)
    assert run(files | {"extracted": tmp_path / "traces"}, tmp_path / "out") == 0
    matches = table(tmp_path / "out")
    assert [(row["id"], row["neighbour_id"]) for row in matches] == [(f"p{i}#0", f"p{i}") for i in range(8)]
    assert all(row["edit_similarity"] == row["indel_similarity"] == 1 for row in matches)


def test_a_killed_run_goes_on_with_the_vectors_that_it_has(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """SIGKILL once the first vectors are kept; the next run keeps them, and its bytes are an unbroken run's."""
    kept = tmp_path / "home" / "embeddings"
    command = [
        sys.executable,
        "-m",
        "datagen.stages.match",
        *arguments(files, tmp_path / "out", "false_match_rate=0.05"),
    ]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    while not (files_kept := [*kept.rglob("[!.]*.npy")]) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {file: file.stat().st_mtime_ns for file in files_kept}
    assert before and not (tmp_path / "out" / "manifest.json").exists()
    assert run(files, tmp_path / "out") == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    (tmp_path / "unbroken").mkdir()
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "unbroken"))
    assert run(files, tmp_path / "again") == 0
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "again")
    assert metrics(tmp_path / "out") == metrics(tmp_path / "again")
