"""The stage `narratives`: every text ends kept or rejected, whatever it is; oracle: texts written by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.stage import main
from datagen.stages.narratives import STAGE
from tests.datagen.stages.conftest import table, write

FABLE = "A Fox saw a bunch of grapes on a high branch and leaped for it again and again, but in vain. 'They are sour,' "
FABLE += "he said to the Crow, and walked off with his nose in the air."

pytestmark = pytest.mark.usefixtures("own_home")


def run(raw: Path, out: Path, *settings: str) -> int:
    arguments = ["--raw", str(raw), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(STAGE, [*arguments, "--set", *(settings or ["seed=0"])])


def rejected(out: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in table(out, "rejections.parquet")}


def test_bad_texts_are_rejected_and_change_no_other(tmp_path: Path):
    """Empty, 1 MB of words, 1 MB without a space, NUL, not UTF-8, short, and the same text again but for its spaces."""
    rows: list[Any] = [
        {"id": "fable", "text": FABLE, "title": "The Fox"},
        {"id": "empty", "text": " \n"},
        {"id": "long", "text": "fox and crow " * 80_000},
        {"id": "line", "text": "x" * 2**20},
        {"id": "dense", "text": ("x" * 300 + " ") * 40},
        {"id": "nul", "text": FABLE + "\0"},
        {"id": "short", "text": "A fox ran."},
        {"id": "again", "text": FABLE.replace(" ", "\n")},
        {"id": "other", "text": FABLE.replace("Fox", "Wolf")},
    ]
    file = write(tmp_path / "mine.jsonl", rows)
    file.write_bytes(file.read_bytes() + b'{"text": "caf\xe9"}\n')
    out = tmp_path / "out"
    assert run(file, out) == 0
    kept = table(out)
    assert [(row["id"], row["text"]) for row in kept] == [("fable", FABLE), ("other", FABLE.replace("Fox", "Wolf"))]
    assert rejected(out) == {
        "empty": "empty_text", "long": "too_long", "line": "too_short", "dense": "too_long", "nul": "not_text",
        "short": "too_short", "again": "exact_duplicate", "mine.jsonl:10": "not_utf8",
    }  # fmt: skip
    assert "the same text as 'fable'" in [row["detail"] for row in table(out, "rejections.parquet")]
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["rows"] == {"in": 10, "out": 2, "rejected": 8} and metrics["words"] == 2 * len(FABLE.split())


def test_a_long_text_becomes_sections_that_say_where_they_stand(tmp_path: Path):
    """A book of forty fables of 44 words, 1760 in all: five sections, each the part of it that its `info` names."""
    book = "\n\n".join(f"{FABLE} It was his try number {n}." for n in range(40))
    out = tmp_path / "out"
    assert run(write(tmp_path / "mine.jsonl", [{"id": "book", "text": book, "title": "T"}]), out, "cut=sections") == 0
    rows = table(out)
    assert [row["id"] for row in rows] == [f"book/{i}" for i in range(len(rows))] and len(rows) == 5
    infos = [json.loads(row["info"]) for row in rows]
    assert [book[info["start"] : info["end"]] for info in infos] == [row["text"] for row in rows]
    assert {info["section_of"] for info in infos} == {"book"} and {info["info"] for info in infos} == {'{"title": "T"}'}
    assert re.findall(r"number (\d+)\.", " ".join(row["text"] for row in rows)) == [str(n) for n in range(40)]
    assert all(row["text"].endswith(".") and len(row["text"].split()) <= 400 for row in rows)


def test_a_book_without_end_is_cut_too_and_rows_in_are_rows_out_and_rejected(tmp_path: Path):
    """1 MB of one sentence over and over: its sections are the same text, so all but a few are duplicates."""
    out = tmp_path / "out"
    rows = write(tmp_path / "mine.jsonl", [{"id": "long", "text": "The fox and the crow ran. " * 40_000}])
    assert run(rows, out, "cut=sections") == 0
    counts = json.loads((tmp_path / "out.json").read_text())
    assert counts["rows"]["in"] == counts["rows"]["out"] + counts["rows"]["rejected"] >= 240_000 / 400
    assert set(counts["rejected"]) == {"exact_duplicate"}


def test_a_section_s_id_that_is_another_text_s_is_rejected(tmp_path: Path):
    """In either order: the second of the two has no id of its own."""
    long = "\n\n".join(f"{FABLE} It was his try number {n}." for n in range(12))
    rows = [{"id": "a/1", "text": FABLE}, {"id": "a", "text": long}, {"id": "a/0", "text": FABLE.replace("Fox", "Owl")}]
    assert run(write(tmp_path / "mine.jsonl", rows), tmp_path / "out", "cut=sections") == 0
    assert [row["id"] for row in table(tmp_path / "out")] == ["a/1", "a/0"]
    assert rejected(tmp_path / "out") == {"a/1": "duplicate_id", "a/0": "duplicate_id"}


def test_a_draw_depends_on_seed_and_id_alone(tmp_path: Path):
    """The same narratives in another order, and beside others that are rejected, give the same draw."""
    rows = [{"id": str(i), "text": f"{FABLE} It was his try number {i}."} for i in range(40)]
    rows += [{"id": "short", "text": "A fox."}]
    drawn: list[set[str]] = []
    for name, given, seed in (("a", rows, 0), ("b", rows[::-1], 0), ("c", rows, 1)):
        out = tmp_path / name
        assert run(write(tmp_path / f"{name}.jsonl", given), out, "n_narratives=10", f"seed={seed}") == 0
        drawn.append({row["id"] for row in table(out)})
        reasons = list(rejected(out).values())
        assert (len(drawn[-1]), reasons.count("not_drawn"), reasons.count("too_short")) == (10, 30, 1)
    assert drawn[0] == drawn[1] != drawn[2]


def test_files_of_a_folder_are_narratives(tmp_path: Path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "fox.txt").write_text(FABLE)
    assert run(tmp_path / "books", tmp_path / "out", "method=text_files") == 0
    assert [(row["id"], row["text"]) for row in table(tmp_path / "out")] == [("fox", FABLE)]


@pytest.mark.parametrize(
    ("rows", "settings", "code", "message"),
    [
        ([{"text": "A fox."}], ["seed=0"], 3, "none of 1 narratives is left (too_short 1); mend them or the bounds"),
        ([{"text": FABLE}], ["min_words=9", "max_words=8"], 2, "min_words=9 is above max_words=8"),
        ([{"text": FABLE}], ["cut=chapters"], 2, "cut: Input should be 'none' or 'sections' (got \"chapters\")"),
        ([{"text": FABLE}], ["method=poems"], 2, "there are text_files, user_texts"),
        ([{"text": FABLE}], ["method=text_files"], 3, "method text_files reads a folder of .txt files"),
        (["{broken\n"], ["seed=0"], 3, "mine.jsonl:1: not JSON"),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], settings: list[str], code: int, message: str
):
    assert run(write(tmp_path / "mine.jsonl", rows), tmp_path / "out", *settings) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_narratives_of_data_raw_are_all_kept_and_share_nothing_with_held_out_prompts(tmp_path: Path, root: Path):
    """No five words in a row of theirs stand in what validation and test prompts are made from."""
    assert run(root / "data/raw/narratives/narratives.jsonl", tmp_path / "out") == 0
    texts = [row["text"] for row in table(tmp_path / "out")]
    assert not rejected(tmp_path / "out") and len(texts) == 50
    assert all(60 <= len(text.split()) <= 250 for text in texts)

    def windows(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    held_out = ("novels/sentences", "speeches/sentences", "goemotions/validation", "goemotions/test",
                "self_instruct/validation", "vicuna_bench/tasks")  # fmt: skip
    others = [(root / f"data/raw/{name}.jsonl").read_text().splitlines() for name in held_out]
    longest = [max(map(str, json.loads(line).values()), key=len) for lines in others for line in lines]
    seen = set().union(*map(windows, longest))
    assert len(seen) > 500 and not seen & set().union(*map(windows, texts))
