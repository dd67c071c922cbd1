"""The report: what it shows is what the datasets hold, and nothing that a model wrote can act in it."""

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from datagen.contracts.dataset import content_hash
from datagen.contracts.stage import main
from datagen.report.figures import ALL, judged, rates, samples, sources, unseen
from datagen.stages.select import STAGE as SELECT
from tests.datagen.conftest import HOSTILE, write_pipeline

INPUTS = ("prompts", "traces", "verified")
STUDENT = ("--student", "models/student", "--evaluation", "data/evaluation")


def run(pipeline: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    inputs = [word for name in INPUTS for word in (f"--{name}", f"data/{name}")]
    command = [sys.executable, "-m", "datagen.stages.report", *inputs, "--out", str(out), *more]
    environment = {"DATASTILL_HOME": str(out.parent / "home"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=pipeline, capture_output=True, text=True, env=environment)


def report(pipeline: Path, out: Path, *more: str) -> None:
    ran = run(pipeline, out, *more)
    assert ran.returncode == 0, ran.stderr


class Page(HTMLParser):
    """The tags, attributes and text that a browser would see."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name == "href"}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report"
    report(pipeline, out, *STUDENT)
    return (out / "index.html").read_text()


def test_what_lies_between_is_a_step_of_the_funnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of two selections the student saw one; by hand, all 6 answers of middle difficulty were kept, or none."""
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    write_pipeline(tmp_path)
    between, verified = tmp_path / "between", tmp_path / "data" / "verified"
    for name, bound in (("unused", "max_pass_rate=0.5"), ("chosen", "min_pass_rate=0.6")):
        settings = ["--out", str(between / name), "--set", "method=by_difficulty", bound]
        assert main(SELECT, ["--verified", str(verified), *settings]) == 0
    student = tmp_path / "models" / "student" / "manifest.json"
    manifest = json.loads(student.read_text())
    student.write_text(json.dumps(manifest | {"inputs": {"traces": content_hash(between / "chosen")}}))
    report(tmp_path, tmp_path / "report", *STUDENT, "--between", "between")
    text = Page((tmp_path / "report" / "index.html").read_text()).text
    assert text.count("Selected") == 1 and "too_hard" in text
    assert text.index("Verified") < text.index("Selected") < text.index("Trained on")
    report(tmp_path, tmp_path / "last", "--between", "between")  # no student: what was made last
    assert "Selected" in Page((tmp_path / "last" / "index.html").read_text()).text
    ran = run(tmp_path, tmp_path / "none", "--between", "models")
    assert ran.returncode == 3 and "leave --between out" in ran.stderr


def test_a_run_without_an_answer_is_shown_too(tmp_path: Path):
    """No prompt came through, so nothing was judged."""
    write_pipeline(tmp_path, n_prompts=0)
    report(tmp_path, tmp_path / "report", "--metrics", str(tmp_path / "report.json"))
    assert "of 0 answers were verified" in Page((tmp_path / "report" / "index.html").read_text()).text
    assert json.loads((tmp_path / "report" / "families.json").read_text()) == []
    assert json.loads((tmp_path / "report.json").read_text()) == {"families": 0, "verified": 0}


def test_hostile_text_is_shown_and_never_obeyed(page: str):
    """Every answer holds a script, an image and an escape sequence. Oracle: the standard HTML parser."""
    seen = Page(page)
    assert seen.tags.isdisjoint({"script", "img", "link", "iframe", "object"})
    assert seen.attributes.isdisjoint({"src", "onerror", "onload"})
    assert seen.links and all(link.startswith(("#", "rows.html")) for link in seen.links)
    assert HOSTILE.replace("\x1b", "\\x1b") in seen.text and "\x1b" not in page


def test_counts_shown_are_the_datasets_counts(page: str, pipeline: Path):
    """Oracle: lengths of the Parquet files, read apart."""
    seen = Page(page).text
    length = {
        name: pl.scan_parquet(pipeline / "data" / name / "part-*.parquet").select(pl.len()).collect().item()
        for name in INPUTS
    }
    assert f"{length['prompts']} prompts" in seen and f"{length['traces']} answers" in seen
    assert f"{length['verified']} kept" in seen
    dropped = pl.concat(pl.read_parquet(pipeline / "data" / name / "rejections.parquet") for name in INPUTS)
    for reason, n in dropped["reason"].value_counts().iter_rows():
        assert f"<code>{reason}</code></a></td>" in page and f'<td class="number">{n}</td>' in page
    tokens = pl.read_parquet(pipeline / "data" / "traces" / "part-*.parquet")["n_completion_tokens"].sum()
    assert f"<dd>{tokens}</dd><dt>answer tokens" in page


def test_the_student_s_rates_are_those_of_its_verdicts(page: str, pipeline: Path):
    """Oracle: the verdicts joined to the answers, counted apart: 1 of 4 before, 3 of 4 after."""
    answers = pl.read_parquet(pipeline / "data" / "evaluation" / "part-*.parquet")
    verdicts = pl.read_parquet(pipeline / "data" / "evaluation" / "verdicts.parquet").select("id", "status")
    passed = answers.join(verdicts, on="id").group_by("teacher").agg((pl.col("status") == "pass").mean() * 100)
    rate = dict(passed.iter_rows())
    assert f"{rate['before']:.0f}\u202f% → {rate['after']:.0f}\u202f%" in Page(page).text.replace("  ", " ")
    assert "The gain is 50.0 points, 95 % interval 0.0 to 100.0" in page


def test_unseen_answers_are_labelled_by_their_verdicts(pipeline: Path):
    """h0 passed both times; h1 and h2 only after training; h3 never, under keywords:existence."""
    for one in unseen(pipeline / "data" / "evaluation"):
        n = int(one.before["prompt_id"][1:])
        assert (one.before_why is None, one.after_why is None) == (n < 1, n < 3)
        assert one.before_why is None or one.before_why["reason"] == "keywords:existence"
        assert one.before["completion"].startswith("before") and one.after["completion"].startswith("after")


def test_a_sample_has_a_kept_and_a_dropped_answer_to_one_prompt(pipeline: Path):
    """By construction sample 0 was kept and sample 1 dropped, under keywords:existence."""
    for sample in samples(pipeline / "data" / "verified", ["one_keyword", "repeat"]):
        assert sample.kept and sample.dropped and sample.why
        assert sample.kept["prompt_id"] == sample.dropped["prompt_id"]
        assert (sample.kept["sample_index"], sample.dropped["sample_index"]) == (0, 1)
        assert sample.why["reason"] == "keywords:existence"


def test_the_page_is_small_and_the_same_each_time(pipeline: Path, page: str, tmp_path: Path):
    report(pipeline, tmp_path / "report", *STUDENT)
    report(pipeline, tmp_path / "report", *STUDENT)  # replaces its own
    assert (tmp_path / "report" / "index.html").read_text() == page
    assert len(page.encode()) < 1_000_000


def test_what_was_measured_is_shown_and_the_rest_is_said_to_be_missing(pipeline: Path, tmp_path: Path):
    """Two minutes and five seconds for traces, nothing for verify."""
    (tmp_path / "metrics").mkdir()
    facts = {"seconds": 125.2, "cpu_seconds": 200.0, "peak_memory_bytes": 1_500_000_000, "requests": 18}
    (tmp_path / "metrics" / "traces.run.json").write_text(json.dumps(facts))
    report(pipeline, tmp_path / "report", "--run-metrics", str(tmp_path / "metrics"))
    seen = Page((tmp_path / "report" / "index.html").read_text()).text
    assert "2 min 05 s" in seen and "1.50 GB" in seen and "not measured here" in seen
    assert "requests 18" in seen and "cpu seconds" not in seen


def test_families_for_plots_hold_the_rates(pipeline: Path, tmp_path: Path):
    """Half of the answers in each family were kept."""
    report(pipeline, tmp_path / "report")
    rows = json.loads((tmp_path / "report" / "families.json").read_text())
    assert {(row["family"], row["who"], row["rate"], row["n"]) for row in rows} == {
        (ALL, "teacher", 0.5, 12),
        ("one_keyword", "teacher", 0.5, 6),
        ("repeat", "teacher", 0.5, 6),
    }


def test_sources_are_counted_by_their_origin(pipeline: Path):
    """Six prompts were made from animals.txt:0 to animals.txt:5."""
    assert sources(pipeline / "data" / "prompts") == {"animals.txt": 6}


def test_a_dataset_given_for_another_is_refused(pipeline: Path, tmp_path: Path):
    """Traces are not verdicts: exit code 3, one line, nothing written."""
    ran = run(pipeline, tmp_path / "report", "--verified", "data/traces")
    assert ran.returncode == 3 and "expected what verify writes, found traces" in ran.stderr
    assert not (tmp_path / "report").exists() and "Traceback" not in ran.stderr


def test_interval_of_single_answers_is_wilson_s():
    """Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81 of 263 gives 0.2553 to 0.3662."""
    answers = pl.LazyFrame(
        {"family": "a", "prompt_id": [str(i) for i in range(263)], "passed": [i < 81 for i in range(263)]}
    )
    rate = rates(answers)["a"]
    assert (rate.low, rate.high) == (pytest.approx(0.2553, abs=2e-4), pytest.approx(0.3662, abs=2e-4))


def test_attempts_that_always_agree_count_as_one():
    """Four equal attempts at each prompt say no more than one: the interval stays."""
    one = [(str(i), i % 3 == 0) for i in range(90)]
    single = pl.LazyFrame({"family": "a", "prompt_id": [id for id, _ in one], "passed": [passed for _, passed in one]})
    repeated = pl.concat([single] * 4)
    alone, together = rates(single)["a"], rates(repeated)["a"]
    assert together.n == 360 and math.isclose(alone.low, together.low) and math.isclose(alone.high, together.high)


def test_every_judged_answer_is_counted_once(pipeline: Path):
    """Twelve answers came, two a prompt."""
    assert judged(pipeline / "data" / "verified").collect()["id"].n_unique() == 12
