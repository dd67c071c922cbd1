"""The stage `domains`; oracles: texts made here, near-duplicates by construction, tokens by regular expressions."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from datagen.contracts.stage import main
from datagen.stages.domains import STAGE
from tests.datagen.stages.conftest import table, write
from tests.word_tokenizer import pieces, write_word_tokenizer

WORDS = [a + b for a in ("ba", "ce", "di", "fo", "gu", "ha") for b in ("lan", "mer", "nis", "por", "quil", "rus")]

pytestmark = pytest.mark.usefixtures("own_home")


def text(domain: str, i: int) -> str:
    """Twenty-one words; no two texts have many in a row alike."""
    return " ".join(random.Random(f"{domain} {i}").choices(WORDS, k=21))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for domain in ("law", "code"):
        write(folder / f"{domain}.jsonl", [{"id": i, "text": text(domain, i), "licence": "MIT"} for i in range(30)])
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    texts = [text(domain, i) for domain in ("law", "code", "prose") for i in range(60)]
    return write_word_tokenizer(tmp_path / "words", texts)


def run(raw: Path, tokenizer: Path, out: Path, *settings: str) -> int:
    arguments = ["--raw", str(raw), "--out", str(out), "--metrics", str(out.with_suffix(".json"))]
    return main(STAGE, [*arguments, "--set", f"tokenizer={tokenizer}", "held_out_rows=5", *settings])


def metrics(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


def test_the_parts_share_no_text_and_together_are_all(raw: Path, tokenizer: Path, tmp_path: Path):
    train, held_out, everything = tmp_path / "train", tmp_path / "held_out", tmp_path / "all"
    assert run(raw, tokenizer, train) == run(raw, tokenizer, held_out, "split=held_out") == 0
    assert run(raw, tokenizer, everything, "split=all") == 0
    parts = [{row["text"] for row in table(out)} for out in (train, held_out, everything)]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == parts[2] and len(parts[2]) == 60
    for domain in ("law", "code"):
        assert sum(row["domain"] == domain for row in table(held_out)) == 5
        expected = sum(len(pieces(row["text"])) for row in table(train) if row["domain"] == domain)
        figures = metrics(train)["domains"][domain]
        assert (figures["rows"], figures["tokens"], figures["licences"]) == (25, expected, {"MIT": 25})
        assert figures["unknown_share"] == 0
    assert metrics(train)["rows"] == {"in": 60, "out": 50, "rejected": 10}
    assert metrics(train)["rejected"] == {"held_out": 10} and metrics(held_out)["rejected"] == {"not_held_out": 50}
    row = table(train)[0]
    assert row["id"].startswith("code/") and row["source"].startswith("code.jsonl:") and row["licence"] == "MIT"


def test_the_split_follows_the_text_and_the_seed_alone(raw: Path, tokenizer: Path, tmp_path: Path):
    """The same texts in another order, with other ids: the same ones are held out; by another seed others are."""
    outs = [tmp_path / name for name in ("one", "two", "three")]
    assert run(raw, tokenizer, outs[0], "split=held_out") == 0
    write(raw / "law.jsonl", [{"id": f"x{i}", "text": text("law", i)} for i in reversed(range(30))])
    assert run(raw, tokenizer, outs[1], "split=held_out") == 0
    assert run(raw, tokenizer, outs[2], "split=held_out", "seed=1") == 0
    first, second, third = ({row["text"] for row in table(out)} for out in outs)
    assert first == second and first != third


def test_duplicates_go_before_the_split(raw: Path, tokenizer: Path, tmp_path: Path):
    """An equal text, one of another domain in capitals, and one with a word changed, are dropped.

    One word of 21 changed leaves 12 of 17 shingles of five, a Jaccard of 12 / 22; so the threshold is .5.
    """
    changed = text("code", 3).split()
    changed[9] = "other"
    extra = [text("law", 1), text("code", 2).upper(), " ".join(changed)]
    write(
        raw / "law.jsonl",
        [{"id": i, "text": one} for i, one in enumerate([*(text("law", i) for i in range(30)), *extra])],
    )
    out = tmp_path / "out"
    assert run(raw, tokenizer, out, "duplicate_threshold=0.5") == 0
    found = {row["id"]: (row["reason"], row["detail"]) for row in table(out, "rejections.parquet")}
    assert found["law/30"] == ("exact_duplicate", "same text as 'law/1', but for case and spaces")
    assert found["law/31"] == ("exact_duplicate", "same text as 'code/2', but for case and spaces")
    assert found["law/32"][0] == "near_duplicate" and "of 'code/3': Jaccard 0.545" in found["law/32"][1]
    assert metrics(out)["rows"] == {"in": 63, "out": 50, "rejected": 13}


def test_one_corpus_under_two_names_is_refused(
    raw: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write(raw / "statutes.jsonl", [{"text": text("law", i)} for i in range(20)])
    assert run(raw, tokenizer, tmp_path / "out") == 3
    assert "domain 'statutes': 20 of its 20 rows stand in other domains, 20 of them in 'law'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("tiny.jsonl", 5, "domain 'tiny': 5 rows are left of 5, too few to hold out held_out_rows=5"),
        ("Law.jsonl", 20, "domains 'Law' and 'law' differ by capitals alone"),
    ],
)
def test_domains_that_cannot_be_used(
    name: str, rows: int, message: str, raw: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write(raw / name, [{"text": text("prose", i)} for i in range(rows)])
    assert run(raw, tokenizer, tmp_path / "out") == 3
    assert message in capsys.readouterr().err


def test_a_script_that_the_tokenizer_cannot_read(
    raw: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    """Georgian by a tokenizer that does not know it: refused as unknown; one that has its letters, for their number.

    A letter is a token there, and a word of some six letters and its space two, so three times as many: a warning.
    """
    georgian = ["".join(chr(0x10D0 + (i * k) % 33) for k in range(1, 200)) for i in range(1, 21)]
    write(raw / "poems.jsonl", [{"text": one} for one in georgian])
    assert run(raw, tokenizer, tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert "domain 'poems': 1.00 tokens a character" in error and "100.0% of its tokens unknown" in error
    known = write_word_tokenizer(
        tmp_path / "letters", [*georgian, *(text(d, i) for d in ("law", "code") for i in range(30))]
    )
    assert run(raw, known, tmp_path / "out") == 0
    ratio = metrics(tmp_path / "out")["domains"]["poems"]["token_ratio"]
    assert 2.5 < ratio < 5 and "domain 'poems': 1.00 tokens a character" in caplog.text
    assert run(raw, known, tmp_path / "other", f"max_token_ratio={ratio - 0.01}") == 3
    assert re.search(r"a script that the tokenizer cannot read: leave it out", capsys.readouterr().err)


def test_a_licence_that_nobody_named_is_unknown(
    raw: Path, tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """A parameter fills what rows leave open, and nothing else."""
    write(raw / "prose.jsonl", [{"text": text("prose", i)} | ({"licence": "MIT"} if i < 3 else {}) for i in range(20)])
    assert run(raw, tokenizer, tmp_path / "one", "split=all") == 0
    assert metrics(tmp_path / "one")["domains"]["prose"]["licences"] == {"MIT": 3, "unknown": 17}
    assert {row["licence"] for row in table(tmp_path / "one") if row["domain"] == "prose"} == {"MIT", ""}
    assert "17 rows of 'prose' name no licence" in caplog.text
    assert run(raw, tokenizer, tmp_path / "two", "split=all", "licences={prose: CC0, law: GPL}") == 0
    assert metrics(tmp_path / "two")["domains"]["prose"]["licences"] == {"MIT": 3, "CC0": 17}
    assert metrics(tmp_path / "two")["domains"]["law"]["licences"] == {"MIT": 30}
    assert run(raw, tokenizer, tmp_path / "three", "licences={poems: CC0}") == 3
    assert "licences: no domain 'poems'; there are code, law, prose" in capsys.readouterr().err


def test_rows_that_are_none_are_counted(raw: Path, tokenizer: Path, tmp_path: Path):
    """A NUL, an empty text, a second row of one id, bytes that are no UTF-8."""
    bad: list[Any] = [{"text": "a\0b"}, {"text": " "}, {"id": 1, "text": "again"}]
    write(raw / "law.jsonl", [*({"id": i, "text": text("law", i)} for i in range(30)), *bad])
    out = tmp_path / "out"
    assert run(raw, tokenizer, out, "split=all", "max_rejected_share=0.2") == 0
    assert metrics(out)["rejected"] == {"duplicate_id": 1, "empty_text": 1, "not_text": 1}
    assert metrics(out)["rows"] == {"in": 63, "out": 60, "rejected": 3}


def test_a_second_run_gives_the_same_bytes(raw: Path, tokenizer: Path, tmp_path: Path):
    contents: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        assert run(raw, tokenizer, tmp_path / name) == 0
        contents.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]


def test_the_repository_s_own_slice(tmp_path: Path):
    """Five domains of sixty rows, all different, each with the licence that data/raw/README.md names for its file."""
    folder = Path(__file__).parents[3] / "data" / "raw"
    files = sorted((folder / "domains").glob("*.jsonl"))
    rows = {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}
    tokenizer = write_word_tokenizer(tmp_path / "words", [row["text"] for one in rows.values() for row in one])
    out = tmp_path / "out"
    assert run(folder / "domains", tokenizer, out, "split=all") == 0
    readme = (folder / "README.md").read_text()
    for name, one in metrics(out)["domains"].items():
        (licence,) = re.findall(rf"^\| domains/{name}\.jsonl \| 60 \|.*?\| ([^|]+) \| [^|]+ \|$", readme, re.MULTILINE)
        assert (one["rows"], one["licences"]) == (60, {licence: 60})
        assert all(len(row["text"]) <= 600 for row in rows[name])
    assert len(metrics(out)["domains"]) == 5
