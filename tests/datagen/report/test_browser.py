"""The row browser's page: which rows it holds, and what it tells of each; that they are found is tests/e2e's."""

import base64
import hashlib
import json
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Prompt, Trace
from datagen.report import browser
from datagen.report.browser import write_browser
from datagen.why import attempt_lines, ending, follow, prompt_lines
from tests.datagen.conftest import HOSTILE, write_pipeline

NAMES = ("prompts", "traces", "verified", "evaluation")


def stories(page: str) -> list[dict[str, Any]]:
    """Oracle for the packing: base64, zlib and JSON of the standard library."""
    blocks = re.findall(r'<script type="text/plain" class="block" data-rows="(\d+)">([\w+/=]*)</script>', page)
    found = [(int(n), json.loads(zlib.decompress(base64.b64decode(packed)))) for n, packed in blocks]
    assert all(n == sum(len(story["rows"]) for story in block) for n, block in found)
    return [story for _, block in found for story in block]


def directories(root: Path) -> list[Path]:
    return [*(root / "data" / name for name in NAMES), root / "models" / "student"]


def test_every_row_is_told_as_why_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: `datastill why` of each id, which looks it up by itself; 18 attempts, 8 of the student, one raw row."""
    write_pipeline(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert write_browser(directories(Path()), Path("rows.html")) == 18 + 8 + 1
    for story in stories(Path("rows.html").read_text()):
        for row in story["rows"]:
            way = follow(row["id"], Path("data"), Path("models"))
            (attempt,) = [one for one in way["attempts"] if one["id"] == row["id"]] or [None]
            assert [line[:2] for line in story["lines"]] == [visible(line) for line in prompt_lines(way)]
            if attempt:
                assert row["end"] == ending(attempt)
                told = [visible(line) for line in attempt_lines(attempt, way["datasets"])]
                assert [line[:2] for line in row["lines"]] == told
            else:
                assert (row["end"], row["why"], row["at"]) == ("dropped", "empty_prompt", "data/prompts")


def visible(line: Any) -> list[str]:
    return [line.label, line.text.replace("\x1b", "\\x1b")]


def test_where_a_row_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By hand: attempt 0 was trained on, 1 dropped by verify, 2 by traces."""
    write_pipeline(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_browser(directories(Path()), Path("rows.html"))
    rows = {row["id"]: row for story in stories(Path("rows.html").read_text()) for row in story["rows"]}
    assert [(rows[f"p3#{i}.0000000{i}"][name]) for i in range(3) for name in ("end", "at", "why", "who")] == [
        "kept and trained on", "models/student", "", "tiny",
        "dropped", "data/verified", "keywords:existence", "tiny",
        "dropped", "data/traces", "http_500", "tiny",
    ]  # fmt: skip


def test_nothing_of_a_row_stands_in_the_page_as_it_is(tmp_path: Path):
    """Not the hostile text; the one script is the one that the policy names."""
    write_pipeline(tmp_path)
    write_browser(directories(tmp_path), tmp_path / "rows.html", title=HOSTILE)
    page = (tmp_path / "rows.html").read_text()
    assert "alert(" not in page.replace("alert(&#x27;", "").replace("onerror=alert(1)&gt;", "")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page
    assert page.count("<script") == 1 + page.count('<script type="text/plain"')


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    write_pipeline(tmp_path)
    for name in ("one.html", "two.html"):
        write_browser(directories(tmp_path), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"data", "models", "one.html", "two.html"}, (
        "nothing is left over"
    )


def test_of_too_many_rows_whole_prompts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """40 prompts with three attempts each and room for 60: those with the least hashes, with all their attempts."""
    write_pipeline(tmp_path, n_prompts=40)
    monkeypatch.setattr(browser, "MAX_ROWS", 60)
    write_browser([tmp_path / "data" / name for name in NAMES[:3]], tmp_path / "rows.html")
    page = (tmp_path / "rows.html").read_text()
    shown = {story["lines"][0][1]: len(story["rows"]) for story in stories(page) if len(story["rows"]) > 1}
    assert set(shown.values()) == {3} and 45 < sum(shown.values()) <= 60
    ranked = sorted((f"p{i}" for i in range(40)), key=lambda id: hashlib.sha256(id.encode()).digest())
    assert set(shown) == set(ranked[: len(shown)])
    assert "% of the prompts, those with the least hashes" in page


def write_foreign(root: Path, n_prompts: int) -> Path:
    """An attempt of each prompt under a long id that does not name it, and a verdict that has the attempt's id only."""
    prompts = [f"p{i}" for i in range(n_prompts)]
    ids = [f"{i}-{'x' * 200}" for i in range(n_prompts)]
    root.mkdir()
    pl.DataFrame({"id": ids, "prompt_id": prompts, "completion": ids}).write_parquet(root / "part-00000.parquet")
    pl.DataFrame({"id": ids, "status": "pass"}).write_parquet(root / "verdicts.parquet")
    return root


def test_memory_does_not_grow_with_ids_that_name_no_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: tracemalloc; 3,000 ids more are 700 kB at least. Kept prompts have their verdict, no other has any."""
    monkeypatch.setattr(browser, "MAX_ROWS", 50)
    held: list[int] = []
    for n in (1_000, 4_000):
        root = write_foreign(tmp_path / str(n), n)
        (tmp_path / f"spool-{n}").mkdir()
        tracemalloc.start()
        with browser._Spool(tmp_path / f"spool-{n}") as spool:
            for table in browser.tables_of(root):
                spool.add(table)
            held.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            found = {
                key: {kind: len(of_kind) for kind, of_kind in rows.items() if of_kind}
                for key, rows in spool.by_prompt()
            }
        assert 30 < len(found) <= 50
        assert found == {key: {"trace": 1, "verdict": 1} for key in found} and all(key[0] == "p" for key in found)
    assert held[1] - held[0] < 100_000, held


def test_long_texts_are_cut_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of 700 characters 500 are shown; one that is as long as allowed is whole."""
    monkeypatch.setattr(browser, "MAX_CHARACTERS", 1_000)
    prompt = Prompt(id="p", messages=[{"role": "user", "content": "x" * 500}])
    with DatasetWriter(tmp_path / "traces", Trace, {"stage": "traces", "inputs": {}}) as writer:
        for index, answer in enumerate(("y" * 700, "fine", "fine again")):
            writer.read()
            writer.write(Trace(id=f"p#{index}.0000000{index}", prompt=prompt, sample_index=index, completion=answer))
    assert write_browser([tmp_path / "traces"], tmp_path / "rows.html") == 3
    (story,) = stories((tmp_path / "rows.html").read_text())
    assert ["user", "x" * 500] in story["lines"]
    assert ["answer", "y" * 500 + " … 200 more characters"] in story["rows"][0]["lines"]


def test_tables_without_rows_or_ids_are_no_rows(tmp_path: Path):
    """A model has none, and neither has a dataset of other things; the page says so by an empty list."""
    folder = tmp_path / "weights"
    folder.mkdir()
    pl.DataFrame({"domain": ["a"], "weight": [1.0]}).write_parquet(folder / "part-00000.parquet")
    (folder / "manifest.json").write_text(json.dumps({"format": "datastill", "stage": "mix"}))
    assert write_browser([folder], tmp_path / "rows.html") == 0
    assert stories((tmp_path / "rows.html").read_text()) == []
