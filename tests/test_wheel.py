"""Oracle: the wheel itself, installed into an environment of its own and run outside the checkout."""

import json
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import polars as pl
import pytest

from tests.installed import ROOT, build_wheel, install, run


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_holds_the_packages_and_the_licence_alone(wheel: Path):
    """Every file of the three packages, none of the tests; and no package of an extra among what the core needs."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = HeaderParser().parsestr(archive.read("datastill-0.1.0.dist-info/METADATA").decode())
    tracked = run("git", "ls-files", "datagen", "condense", "trainers", cwd=ROOT).split()
    assert {name for name in names if ".dist-info/" not in name} >= set(tracked)
    assert {name.split("/")[0] for name in names} == {"datagen", "condense", "trainers", "datastill-0.1.0.dist-info"}
    assert "datastill-0.1.0.dist-info/licenses/LICENSE" in names
    core = [one.split(";")[0].split(">")[0] for one in metadata.get_all("Requires-Dist") or [] if "extra ==" not in one]
    assert core == [
        "aiohttp", "emoji", "math-verify[antlr4-9-3]", "numpy", "polars", "py3langid", "pydantic", "pyyaml",
        "rapidfuzz", "rensa", "rich", "snowballstemmer", "syllapy", "textblob",
    ]  # fmt: skip


def test_it_runs_outside_the_checkout(wheel: Path, tmp_path: Path):
    """`datastill list`, then traces and verify of a user's file; an answer is right where it holds the reference."""
    datastill = install(wheel, tmp_path) / "datastill"
    assert run(datastill, "--version", cwd=tmp_path) == "datastill 0.1.0\n"
    listed = run(datastill, "list", cwd=tmp_path)
    assert "traces" in listed and "math_answer" in listed

    rows = [{"id": str(n), "prompt": f"What is {n} + {n}?", "reference": str(2 * n)} for n in (1, 2, 3)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = '["The answer is 4.", "The answer is 6."]'
    run(datastill, "traces", "--prompts", "mine.jsonl", "--out", "traces", "--set", "backend=scripted",
        f"answers={answers}", "samples_per_prompt=4", cwd=tmp_path)  # fmt: skip
    run(datastill, "verify", "--traces", "traces", "--out", "verified", "--set", "method=math_answer", cwd=tmp_path)
    verdicts = pl.read_parquet(tmp_path / "verified" / "verdicts.parquet")
    traces = pl.read_parquet(tmp_path / "traces" / "part-*.parquet")
    right = {row["id"]: row["reference"] in row["completion"] for row in traces.iter_rows(named=True)}
    assert verdicts.height == 12
    assert {row["id"]: row["status"] == "pass" for row in verdicts.iter_rows(named=True)} == right
