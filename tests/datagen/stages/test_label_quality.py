"""The stage `label_quality` through every judge; oracles: labels by hand, the server's count, sheets filled by hand."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.dataset import read_manifest
from datagen.contracts.stage import main
from datagen.stages.label_quality import STAGE, parse
from datagen.why import main as why
from tests.chat_server import ChatServer, reply, running
from tests.datagen.agreement.conftest import write_classifier
from tests.datagen.stages.conftest import table, write

TAXONOMY = "name: moods\nneutral: calm\nlabels:\n- {name: joy, definition: being glad}\n- name: fear\n- name: calm\n"
ROWS: list[Any] = [
    {"id": "a", "text": "At last!", "context": "It rained.", "labels": {"joy": 0.8, "fear": 0.2}},
    {"id": "b", "text": "Run!", "labels": ["fear"]},
    {"id": "c", "text": "It is noon.", "labels": []},
    {"id": "d", "text": "Hurrah, and now run!", "labels": {"joy": 0.5, "fear": 0.9}},
    {"id": "e", "text": "Fine.", "labels": ["joy"]},
]

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    (tmp_path / "moods.yaml").write_text(TAXONOMY)
    return write(tmp_path / "examples.jsonl", ROWS)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


def run(examples: Path, out: Path, *settings: str, **inputs: Path) -> int:
    arguments = ["--examples", str(examples), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    for name, path in inputs.items():
        arguments += [f"--{name}", str(path)]
    return main(STAGE, [*arguments, "--set", f"taxonomy={examples.parent / 'moods.yaml'}", *settings])


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


def sheet_rows(out: Path) -> dict[str, str]:
    """Text to code, of the table."""
    with (out / "review.csv").open(newline="", encoding="utf-8-sig") as file:
        return {row["text"]: row["row"] for row in csv.DictReader(file)}


def test_without_a_judge_there_is_a_sheet_to_fill(examples: Path, tmp_path: Path):
    """Every row on it, in another order than the input's and for another seed in another; the labels' names once."""
    out = tmp_path / "out"
    assert run(examples, out) == 0
    assert metrics(out)["rows"] == {"in": 5, "out": 5, "rejected": 0} and metrics(out)["review"] == {"rows": 5}
    texts = [row["text"] for row in ROWS]
    assert sorted(sheet_rows(out)) == sorted(texts)
    orders = {tuple(sheet_rows(out))}
    for seed in range(1, 6):
        assert run(examples, tmp_path / str(seed), f"draw_seed={seed}") == 0
        orders.add(tuple(sheet_rows(tmp_path / str(seed))))
    assert len(orders) > 3
    page = (out / "review.html").read_text()
    assert page.count('value="joy"') == 1 and "being glad" in page and "0.8" not in page
    assert [row["labels"] for row in table(out, "judged.parquet")] == [
        ["joy"],
        ["fear"],
        ["calm"],
        ["fear", "joy"],
        ["joy"],
    ]
    assert read_manifest(out)["files"].keys() >= {"review.html", "review.csv", "judged.parquet"}


def test_people_s_answers_are_held_against_each_other_and_the_labels(examples: Path, tmp_path: Path):
    """Ada agrees with all five rows. Bob judges three: b the same, c as joy, d as joy alone.

    By hand, of the majority (on rows of two, what both say): b fear, d joy, c nothing, which is calm, so four of five
    rows are equal, joy has 3 in the dataset, 3 by people, 3 by both, and fear 2, 1, 1.
    """
    assert run(examples, tmp_path / "first") == 0
    code = sheet_rows(tmp_path / "first")
    a, b, c, d, e = (code[row["text"]] for row in ROWS)
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "ada.csv").write_text(f"row,labels\n{a},joy\n{b},fear\n{c},calm\n{d},joy; fear\n{e},joy\n")
    (folder / "bob.csv").write_text(f"row;labels\n{a};\n{b};fear\n{c};Joy\n{d};joy\n{e};\n")
    out = tmp_path / "out"
    assert run(examples, out, reviews=folder) == 0
    people = metrics(out)["people"]
    assert people["between"]["rows"] == 3
    assert people["by_person"]["ada"]["exact"]["value"] == 1.0 and people["by_person"]["ada"]["kappa"]["value"] == 1.0
    assert people["by_person"]["bob"]["exact"]["value"] == 0.3333 and people["by_person"]["bob"]["rows"] == 3
    assert people["dataset"]["exact"]["value"] == 0.8
    counted = {
        label: [one[name] for name in ("dataset", "people", "both")]
        for label, one in people["dataset"]["labels"].items()
    }
    assert counted == {"joy": [3, 3, 3], "fear": [2, 1, 1], "calm": [1, 1, 1]}
    assert people["dataset"]["labels"]["fear"]["precision"]["value"] == 0.5
    judged = {row["id"]: (row["people"], row["n_people"]) for row in table(out, "judged.parquet")}
    assert judged == {"a": (["joy"], 1), "b": (["fear"], 2), "c": (["calm"], 2), "d": (["joy"], 2), "e": (["joy"], 1)}
    # what people judged is judged whatever is drawn, and the sheet can be read back by any draw
    assert run(examples, tmp_path / "one", "n_rows=1", "n_review=1", "draw_seed=3", reviews=folder) == 0
    assert metrics(tmp_path / "one")["people"]["by_person"].keys() == {"ada", "bob"}
    assert metrics(tmp_path / "one")["rows"]["out"] == 5


def test_the_teacher_is_asked_again_through_the_ledger(examples: Path, server: ChatServer, tmp_path: Path):
    """Over HTTP: it agrees on four of five, and a rerun asks nothing. Oracle: the server's count."""

    def answer(body: dict[str, Any], n: int) -> Any:
        asked = body["messages"][0]["content"].partition("<<<TEXT")[2]
        labels = [name for name, word in (("joy", "last"), ("joy", "Hurrah"), ("fear", "un!")) if word in asked]
        text = json.dumps({"labels": [{"label": one, "expressiveness": 0.7} for one in labels]})
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return reply({"object": "chat.completion", "model": "m", "choices": [choice],
                      "usage": {"prompt_tokens": 9, "completion_tokens": 3}})  # fmt: skip

    server.fault = answer
    asking = ("backend=openai_api", f"base_url={server.base_url}", "model=m", "temperature=0.7", "seed=1")
    assert run(examples, tmp_path / "out", *asking) == 0
    found = metrics(tmp_path / "out")["second_pass"]
    assert (found["rows"], found["exact"]["value"], found["unanswered"]) == (5, 0.8, {})
    assert [found["labels"]["joy"][name] for name in ("dataset", "second_pass", "both")] == [3, 2, 2]
    assert server.n_requests == 5 and server.bodies[0]["temperature"] == 0.7
    assert run(examples, tmp_path / "again", *asking) == 0
    assert server.n_requests == 5 and metrics(tmp_path / "again") == metrics(tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    assert run(examples, tmp_path / "other", *asking[:-1], "seed=2") == 0
    assert server.n_requests == 10
    manifest = read_manifest(tmp_path / "out")
    assert manifest["judges"]["second_pass"]["model"] == "m" and "base_url" not in manifest["params"]


def test_families_are_told_apart(examples: Path, tmp_path: Path):
    """By hand: a classifier that sees joy and fear everywhere is right of d alone, which is of the second family."""
    rows = [row | {"family": "told" if row["id"] in "de" else "said"} for row in ROWS]
    folder = write_classifier(tmp_path / "model", ["joy", "fear"], thresholds={"joy": 0, "fear": 0})
    assert run(write(examples, rows), tmp_path / "out", f"classifier={folder}") == 0
    by_family = metrics(tmp_path / "out")["classifier"]["by_family"]
    told = {name: (one["rows"], one["exact"]["value"]) for name, one in by_family.items()}
    assert told == {"said": (3, 0.0), "told": (2, 0.5)}


def test_a_teacher_that_fails_for_a_row_loses_that_row_s_answer_alone(
    examples: Path, server: ChatServer, tmp_path: Path
):
    """It refuses one row, by status 400, and speaks no JSON of the others."""
    server.fault = lambda body, n: reply(b"no", status=400) if "Run!" in json.dumps(body) else None
    asking = ("backend=openai_api", f"base_url={server.base_url}", "model=m")
    assert run(examples, tmp_path / "out", *asking) == 0
    found = metrics(tmp_path / "out")["second_pass"]
    assert sum(found["unanswered"].values()) == 5 and found["unanswered"]["no_json"] == 4 and "rows" not in found
    why = {row["id"]: row["why_not"] for row in table(tmp_path / "out", "judged.parquet")}
    assert (
        why["a"] == '{"second_pass": "no_json"}'
        and why["b"] != why["a"]
        and metrics(tmp_path / "out")["rows"]["out"] == 5
    )


def test_a_classifier_is_measured_on_real_rows_too(examples: Path, tmp_path: Path):
    """Its labels from probability 0 on are all that it knows: of five rows joy and fear hold everywhere.

    So every label of a row is found again, and of those found joy is 3 of 5, fear 2; of two real rows 1 each.
    """
    real = [{"text": "Oh!", "labels": ["joy"]}, {"text": "No!", "labels": ["fear"]}, {"text": "?", "labels": ["awe"]}]
    folder = write_classifier(
        tmp_path / "model", ["joy", "fear", "dread"], thresholds=dict.fromkeys(["joy", "fear", "dread"], 0)
    )
    out = tmp_path / "out"
    assert run(examples, out, f"classifier={folder}", reference=write(tmp_path / "real.jsonl", real)) == 0
    found = metrics(out)["classifier"]
    assert found["labels_not_compared"] == {"of_classifier": ["dread"], "of_dataset": ["calm"]}
    assert found["labels"].keys() == {"joy", "fear"}
    assert [found["labels"][label]["precision"]["value"] for label in ("joy", "fear")] == [1, 1]
    assert [found["labels"][label]["recall"]["value"] for label in ("joy", "fear")] == [0.6, 0.4]
    assert found["labels"]["joy"]["classifier"] == 5 and found["labels"]["joy"]["kappa"]["value"] == 0
    assert found["exact"]["value"] == 0.2
    assert found["on_reference"]["rows"] == 2 and found["on_reference"]["not_used"] == {"unknown_label": 1}
    assert found["on_reference"]["labels"]["fear"]["both"] == 1
    identity = read_manifest(out)["judges"]["classifier"]
    assert identity["model"] == "model" and identity["thresholds"] == {"joy": 0.0, "fear": 0.0, "dread": 0.0}


def test_labels_outside_the_taxonomy_and_rows_not_drawn_are_rejected(examples: Path, tmp_path: Path):
    file = write(
        examples, [*ROWS, {"id": "f", "text": "Ah.", "labels": ["awe"]}, {"id": "g", "text": " ", "labels": []}]
    )
    out = tmp_path / "out"
    assert run(file, out, "n_rows=2", "max_rejected_share=0.5") == 0
    reasons = {"not_drawn": 3, "unknown_label": 1, "empty_text": 1}
    assert metrics(out)["rows"] == {"in": 7, "out": 2, "rejected": 5} and metrics(out)["rejected"] == reasons
    assert metrics(out)["review"] == {"rows": 2}


def test_why_shows_a_row_s_labels_and_that_it_was_not_drawn(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """By hand: the first row's labels as it has them; of the four that are not drawn the one that is asked for."""
    assert run(examples, tmp_path / "all") == 0
    assert why(["a", "--data", str(tmp_path / "all")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "document a" in shown and "context It rained." in shown and "labels joy 0.8, fear 0.2" in shown
    assert run(examples, tmp_path / "one", "n_rows=1") == 0
    drawn = {row["id"] for row in table(tmp_path / "one")}
    dropped = next(row["id"] for row in ROWS if row["id"] not in drawn)
    assert why([dropped, "--data", str(tmp_path / "one")]) == 0
    assert "1 of 5 rows were drawn" in " ".join(capsys.readouterr().out.split())


def test_without_a_taxonomy_the_labels_are_those_of_the_rows(examples: Path, tmp_path: Path):
    """And a row without a label has none, as no label is known to be neutral."""
    out = tmp_path / "out"
    arguments = ["--examples", str(examples), "--out", str(out), "--set", "n_review=0"]
    assert main(STAGE, arguments) == 0
    assert [row["labels"] for row in table(out, "judged.parquet")][2] == []
    assert not (out / "review.html").exists()


@pytest.mark.parametrize(
    ("settings", "inputs", "code", "message"),
    [
        (["positive_from=0"], {}, 2, "positive_from: Input should be greater than 0"),
        (["model=m"], {}, 2, "model: unknown parameter"),
        (["backend=chat"], {}, 2, "backend: no 'chat' in datagen.backends"),
        (["backend=scripted", "choices_per_request=2"], {}, 2, "each question is a request of its own"),
        (["classifier=absent"], {}, 2, "model 'absent' is neither a folder nor a model of the Hub"),
        ([], {"reference": "examples.jsonl"}, 2, "--reference: the classifier is measured on it"),
        ([], {"reviews": "absent"}, 3, "no such folder; put the filled sheets into one"),
        (["taxonomy=moods"], {}, 2, "taxonomy: 'moods': No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_said(
    examples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    inputs: dict[str, str],
    code: int,
    message: str,
):
    assert (
        run(examples, tmp_path / "out", *settings, **{name: tmp_path / path for name, path in inputs.items()}) == code
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_section_s_backend_is_checked_with_it():
    parts = parse({"backend": "scripted", "temperature": 0.5, "n_rows": 10})
    assert parts.values()["temperature"] == 0.5 and parts.values()["max_new_tokens"] == 512
    assert "temperature" not in parse({}).values()
