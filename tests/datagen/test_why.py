"""`datastill why`: the way of each row of a small pipeline whose every row is known."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Prompt, Trace
from datagen.contracts.stage import main
from datagen.stages.filter import STAGE as FILTER
from datagen.stages.select import STAGE as SELECT

DATASTILL = Path(sys.executable).with_name("datastill")


def why(pipeline: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DATASTILL, "why", *arguments], cwd=pipeline, capture_output=True, text=True, timeout=60)


def way(pipeline: Path, id: str) -> dict[str, Any]:
    ran = why(pipeline, id, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_prompt_shows_every_attempt_and_its_end(pipeline: Path):
    """Sample 0 was trained on, 1 was dropped by verify under the constraint's id, 2 by traces as the server failed."""
    found = way(pipeline, "p3")
    assert found["prompt"]["source"] == "animals.txt:3" and found["prompt"]["family"] == "repeat"
    kept, failed, unanswered = found["attempts"]
    assert kept["kept_in"] == ["data/traces", "data/verified"] and kept["trained"] == ["models/student"]
    assert (kept["teacher"], kept["seed"], kept["request_key"]) == ("tiny", 70, "00000000ffff")
    assert [(v["method"], v["status"]) for v in kept["verdicts"]] == [("instruction_constraints", "pass")]
    assert failed["kept_in"] == ["data/traces"] and not failed["trained"]
    assert [(r["stage"], r["reason"]) for r in failed["rejections"]] == [("verify", "keywords:existence")]
    assert [(r["stage"], r["reason"]) for r in unanswered["rejections"]] == [("traces", "http_500")]
    assert found["datasets"]["data/traces"]["params"]["temperature"] == 0.5


def test_a_trace_leads_to_its_prompt(pipeline: Path):
    found = way(pipeline, "p3#1.00000001")
    assert found["prompt"]["id"] == "p3" and found["prompt_in"] == ["data/prompts"]


def test_a_dropped_prompt_says_why(pipeline: Path):
    found = way(pipeline, "animals.txt:99")
    assert [(r["reason"], r["detail"]) for r in found["rejections"]] == [("empty_prompt", "nothing in it")]
    assert not found["attempts"]


def test_a_document_that_filter_dropped_names_what_it_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also a bad row, whose id is its place; a kept one shows where it is."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    pages = tmp_path / "pages.jsonl"
    pages.write_text('{"id": "a", "text": "The same page."}\n{"id": "b", "text": "the  same page."}\n{}\n')
    out = tmp_path / "data" / "pages"
    assert main(FILTER, ["--documents", str(pages), "--out", str(out), "--set", "max_rejected_share=0.5"]) == 0
    assert [(r["stage"], r["reason"], r["detail"]) for r in way(tmp_path, "b")["rejections"]] == [
        ("filter", "exact_duplicate", "same text as 'a', but for case and spaces")
    ]
    assert [r["reason"] for r in way(tmp_path, "pages.jsonl:3")["rejections"]] == ["another_record"]
    shown = why(tmp_path, "a").stdout
    assert shown.startswith("document  a") and "data/pages, made by near_duplicates" in shown
    assert "The same page." in shown and "dropped" not in shown


def test_a_trace_that_filter_dropped_says_why(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Verify kept it, filter found it too long."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    shutil.copytree(pipeline / "data", tmp_path / "data")
    settings = ["--set", "method=length", "field=answer", "max_words=2"]
    data = tmp_path / "data"
    assert main(FILTER, ["--documents", str(data / "verified"), "--out", str(data / "short"), *settings]) == 0
    kept = way(tmp_path, "p3")["attempts"][0]
    assert kept["kept_in"] == ["data/traces", "data/verified"]
    (row,) = kept["rejections"]
    assert (row["dataset"], row["stage"], row["reason"]) == ("data/short", "filter", "too_long")
    assert row["detail"].endswith("the most is 2")
    assert "dropped   too_long in data/short" in " ".join(why(tmp_path, "p3").stdout.split("│"))


def test_an_answer_of_the_student_is_found_with_its_verdict(pipeline: Path):
    """The student failed h1 before training and passed it after."""
    before, after = way(pipeline, "h1")["attempts"]
    assert [one["verdicts"][0]["status"] for one in (before, after)] == ["fail", "pass"]
    shown = why(pipeline, "h1").stdout
    assert "judged fail" in shown and shown.count("  kept\n") == 1


def test_a_request_without_an_answer_shows_who_was_asked_and_how(pipeline: Path):
    """The traces stage's manifest says it; the server failed on sample 2 of every prompt."""
    shown = why(pipeline, "p3#2").stdout
    ending = shown[shown.index("p3#2") :]
    assert "tiny, temperature 0.5, max_new_tokens 48" in ending and "the server fell over" in ending


def test_the_start_of_an_id_is_enough(pipeline: Path):
    assert way(pipeline, "p2#1")["id"] == "p2#1.00000001"
    assert way(pipeline, "animals")["id"] == "animals.txt:99"


def test_an_ambiguous_start_names_the_candidates(pipeline: Path):
    ran = why(pipeline, "p")
    assert ran.returncode == 2 and "6 rows start with 'p': p0, p1" in ran.stderr
    assert why(pipeline, "p1#").returncode == 2


def test_an_unknown_id_says_where_it_was_looked_for(pipeline: Path):
    ran = why(pipeline, "zzz")
    assert ran.returncode == 3 and "data/traces" in ran.stderr and "Traceback" not in ran.stderr


def test_a_folder_without_datasets_is_an_error(tmp_path: Path):
    ran = why(tmp_path, "p1")
    assert ran.returncode == 3 and "--data" in ran.stderr


def test_text_of_a_model_cannot_steer_the_terminal(pipeline: Path):
    """The answers of prompt 0 hold an escape sequence and rich's markup; both come out as written."""
    shown = why(pipeline, "p0").stdout
    assert "\x1b" not in shown and "\\x1b[31m" in shown and "[bold]" in shown
    for expected in ("keywords:existence", "temperature 0.5", "models/student", "the server fell over"):
        assert expected in shown


def test_a_score_and_whether_it_was_the_best_are_shown(tmp_path: Path):
    """As best_of_n marks them; attempts of other methods say nothing of a score."""
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "3 + 4?"}])
    with DatasetWriter(tmp_path / "data" / "traces", Trace, {"stage": "traces", "method": "best_of_n"}) as writer:
        writer.read(3)
        for index, (score, best) in enumerate([(0.5, False), (1.0, True), (None, None)]):
            writer.write(Trace(id=f"p#{index}.0000000{index}", prompt=prompt, completion="7", score=score, best=best))
    shown = why(tmp_path, "p").stdout.split("attempt")[1:]
    assert ["not the best" in one for one in shown] == [True, False, False]
    assert ["score     1, the best" in one for one in shown] == [False, True, False]


def test_what_select_said_of_a_prompt_and_its_attempts_is_shown(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One of two attempts passes: the scores 1 and 0 vary by as much as their mean."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    shutil.copytree(pipeline / "data", tmp_path / "data")
    data = tmp_path / "data"
    settings = ["--set", "method=by_difficulty", "min_pass_rate=0.6"]
    assert main(SELECT, ["--verified", str(data / "verified"), "--out", str(data / "selected"), *settings]) == 0
    found = way(tmp_path, "p3")
    assert [(row["n_passes"], row["n_attempts"], row["cv"]) for row in found["scores"]] == [(1, 2, 1.0)]
    passed, failed, _ = found["attempts"]
    assert [(r["stage"], r["reason"]) for r in passed["rejections"]] == [("select", "too_hard")]
    assert [r["stage"] for r in failed["rejections"]] == ["verify", "select"]
    assert len(passed["verdicts"]) == 1 and passed["is_dropped"]  # select's verdict is verify's
    assert "1 of 2 attempts pass, mean score 0.5, coefficient of variation 1" in why(tmp_path, "p3").stdout


def test_what_verify_dropped_and_select_took_is_kept(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At a threshold of 0 everything passes; the later decision counts."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    shutil.copytree(pipeline / "data", tmp_path / "data")
    data = tmp_path / "data"
    assert way(tmp_path, "p3")["attempts"][1]["is_dropped"]
    assert main(SELECT, ["--verified", str(data / "verified"), "--out", str(data / "all"), "--set", "threshold=0"]) == 0
    taken = way(tmp_path, "p3")["attempts"][1]
    assert not taken["is_dropped"] and taken["kept_in"] == ["data/traces", "data/all"]


def test_ids_of_users_are_found_among_many_files(tmp_path: Path):
    """Rows of three shards, each with an id that does not name its prompt; of two prompts one starts like the other."""
    prompts = [Prompt(id=name, messages=[{"role": "user", "content": "?"}]) for name in ("p", "pq")]
    with DatasetWriter(tmp_path / "data" / "traces", Trace, {"stage": "traces"}) as writer:
        for index in range(3 * 2048):
            writer.read()
            writer.write(Trace(id=f"row-{index}", prompt=prompts[index in (0, 5000)], completion=str(index)))
    assert len(list((tmp_path / "data" / "traces").glob("part-*"))) == 3
    found = way(tmp_path, "row-5000")
    assert found["prompt"]["id"] == "pq"
    assert [one["id"] for one in found["attempts"]] == ["row-0", "row-5000"]
    assert [one["completion"] for one in way(tmp_path, "pq")["attempts"]] == ["0", "5000"]
    assert way(tmp_path, "row-614")["id"] == "row-614"
