"""Two runs side by side; oracle: what a small program wrote in each of them, run by DVC as an experiment."""

import subprocess
import sys
from pathlib import Path

import pytest

from datagen.cli import main
from datagen.report.compare import render

PROGRAM = """
import json, yaml
lr = yaml.safe_load(open("params.yaml"))["train"]["lr"]
figures = {"rate": 0.25 * lr, "rows": {"in": 10, "out": 4 * lr}, "name": "x" * lr}
json.dump(figures | ({"only": 1} if lr == 1 else {}), open("train.json", "w"))
"""
STAGE = """
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [train]
    metrics:
      - train.json: {cache: false}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one stage, run with a rate of 1, and the experiment `faster` of it with 2."""
    root = tmp_path_factory.mktemp("project")
    for name, content in {"train.py": PROGRAM, "dvc.yaml": STAGE, "params.yaml": "train: {lr: 1}\n"}.items():
        (root / name).write_text(content)
    dvc = [sys.executable, "-m", "dvc"]
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (
        ["git", "init", "-q", "."], [*dvc, "init", "-q"], [*dvc, "config", "core.analytics", "false"],
        [*dvc, "repro", "-q"], ["git", "add", "-A"], ["git", *who, "commit", "-q", "-m", "one"],
        [*dvc, "exp", "run", "-q", "-n", "faster", "-S", "train.lr=2"],
        ["git", "checkout", "-q", "--", "."],
    ):  # fmt: skip
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root


def test_an_experiment_stands_beside_what_is_here(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """By hand: rate .25 and .5, rows out 4 and 8, one figure gone, rows in equal; the param 1 and 2."""
    monkeypatch.chdir(project)
    assert main(["report", "--compare", "faster"]) == 0
    assert capsys.readouterr().out == "compare.html\n"
    page = (project / "compare.html").read_text()
    (project / "compare.html").unlink()

    def row(name: str) -> list[str]:
        line = page[page.index(f'<th scope="row">{name}') :].split("</tr>")[0]
        return [cell.removesuffix("</td>") for cell in line.split('<td class="number">')[1:]]

    assert row("rate") == ["0.25", "0.5", "+0.25", "+100.0\u202f%"]
    assert row("rows.out") == ["4", "8", "+4", "+100.0\u202f%"]
    assert row("name") == ["x", "xx", "", ""] and row("only") == ["1", "none", "", ""]
    assert row("params.yaml: train.lr") == ["1", "2", "+1", "+100.0\u202f%"]
    assert "4 of 5 figures differ; params that differ: 1." in page and "rows.in" not in page
    assert "width:25.00%" in page and "width:50.00%" in page, "a share is drawn as well"
    assert "<script" not in page and "default-src 'none'" in page


def test_a_run_beside_itself_is_equal(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(project)
    assert main(["report", "--compare", "HEAD", "--with", "HEAD", "--out", str(tmp_path / "deep" / "folder")]) == 0
    out = tmp_path / "deep" / "folder" / "index.html"
    assert "0 of 5 figures differ; params that differ: 0." in out.read_text() and "Equal in both" in out.read_text()


@pytest.mark.parametrize(
    ("revision", "place", "said"),
    [
        ("nowhere", "", "unknown Git revision 'nowhere'"),
        ("faster", "outside", "Only supported for Git repositories"),
        ("-x", "", "names no run"),
    ],
)
def test_what_cannot_be_compared_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    revision: str, place: str, said: str,
):  # fmt: skip
    """Exit code 3 and one line: what DVC says, where, and what to do; no page."""
    monkeypatch.chdir(tmp_path if place else project)
    assert main(["report", f"--compare={revision}"]) == 3
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told and ("dvc exp list" in told or "give an experiment" in told)
    assert not Path("compare.html").exists()


def test_names_are_text():
    """A file, a figure and a value that are markup."""
    metrics = {"<b>.json": {"<i>": {"old": "<script>", "new": 1}}}
    page = render("<u>", "b", metrics, {})
    assert all(tag not in page for tag in ("<b>.json", "<i><", "<script>", "<u>")) and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("name", "is_drawn"),
    [
        ("verified_rate", True), ("by_family.brief.after", True), ("auc.mean", True), ("domains.law.share", True),
        ("macro_f1", True), ("loss_last", False), ("net.seconds", False), ("learning_rate", False),
        ("accuracy.std", False), ("step_size", False), ("n_tokens", False),
    ],
)  # fmt: skip
def test_only_shares_are_drawn_as_shares(name: str, is_drawn: bool):
    """By what each figure is: 0.25 and 0.5 of a whole, or seconds, losses and sizes that happen to be below one."""
    page = render("a", "b", {"train.json": {name: {"old": 0.25, "new": 0.5}}}, {})
    assert ("width:25.00%" in page, "width:50.00%" in page) == (is_drawn, is_drawn)
