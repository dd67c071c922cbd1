"""The command `datastill`, as a real process."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import polars as pl

import datagen
from datagen.contracts.stage import PACKAGES

DATASTILL = Path(sys.executable).with_name("datastill")
ROOT = Path(datagen.__file__).parents[1]


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DATASTILL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **environment},
    )  # fmt: skip


def test_version_is_the_distribution_s():
    """Oracle: the installed metadata."""
    assert run("--version").stdout == f"datastill {metadata.version('datastill')}\n"


def test_list_names_every_stage_file_and_its_required_inputs():
    """Oracle: the files in the stages' folders; `traces` takes prompts."""
    listed = run("list")
    assert listed.returncode == 0, listed.stderr
    files = [f for package in PACKAGES for f in (ROOT / package / "stages").glob("*.py") if f.stem != "__init__"]
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if line.strip()}
    assert {f.stem for f in files} <= lines.keys()
    assert "--prompts" in lines["traces"] and "n_samples" in lines
    assert "[--raw]" in lines["prompts"]


def test_every_stage_explains_itself():
    """Oracle: the stage's own inputs, and `--out`, which every stage has."""
    shown = run("traces", "--help")
    assert shown.returncode == 0 and "--prompts PATH" in shown.stdout and "--out DIR" in shown.stdout


def test_a_stage_runs_outside_dvc(tmp_path: Path):
    """Two rows in, two prompts out, ids as given."""
    rows = [{"id": "a", "prompt": "Say hello."}, {"id": "b", "prompt": "Say goodbye."}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = run(
        "prompts", "--raw", "rows.jsonl", "--out", "prompts", "--set", "method=user_rows",
        cwd=tmp_path, DATASTILL_HOME=str(tmp_path / "home"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert pl.read_parquet(tmp_path / "prompts" / "part-*.parquet")["id"].to_list() == ["a", "b"]


def test_an_unknown_command_gets_one_line_that_names_the_nearest():
    """Exit code 2: the user can mend it."""
    ran = run("trace")
    assert ran.returncode == 2 and not ran.stdout
    assert ran.stderr.count("\n") == 1 and "'trace'" in ran.stderr and "traces" in ran.stderr


def test_no_command_shows_the_usage():
    ran = run()
    assert ran.returncode == 2 and "datastill why" in ran.stderr
    assert run("--help").returncode == 0


def test_a_missing_input_has_no_traceback(tmp_path: Path):
    ran = run(
        "prompts", "--raw", "gone.jsonl", "--out", "prompts", "--set", "method=user_rows",
        cwd=tmp_path, DATASTILL_HOME=str(tmp_path / "home"),
    )  # fmt: skip
    assert ran.returncode == 3 and "gone.jsonl" in ran.stderr and "Traceback" not in ran.stderr


def test_list_imports_no_torch():
    """Oracle: the interpreter's own record. The families' packages may import it, `list` reads their files alone."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "datagen.cli", "list"], capture_output=True, text=True, cwd=ROOT
    )
    assert ran.returncode == 0 and "polars" in ran.stderr and "torch" not in ran.stderr


def test_help_needs_neither_polars_nor_pydantic():
    """Oracle: the interpreter's own record of what it imported."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "datagen.cli", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert "datastill why" in ran.stdout and "argparse" not in ran.stderr
    assert "polars" not in ran.stderr and "pydantic" not in ran.stderr
