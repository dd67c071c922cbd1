"""`datastill init` from the wheel, outside the checkout; oracles: DVC's own word on what ran, and the rows' counts."""

import json
from pathlib import Path

import pytest
import yaml

from datagen.contracts.errors import DataError, ParamsError
from datagen.init.command import upgrade, write_project
from tests.installed import ROOT, build_wheel, install, run
from tests.tiny_model import write_tiny_model

STAGES = ("prompts", "prompts_heldout", "traces", "verify", "train_lm", "evaluate_lm", "report")
SCRIPTED = {
    "traces": {
        "method": "n_samples", "backend": "scripted", "samples_per_prompt": 4,
        "answers": ["Paris.", "The capital of Cuba is Havana"],
    },
    "train_lm": {"student": "tiny", "objective": "supervised", "max_tokens": 128, "epochs": 1, "n_threads": 1},
    "evaluate_lm": {"method": "short_answer", "before": "tiny", "max_new_tokens": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    return install(build_wheel(folder), folder)


def ran(said: str) -> set[str]:
    """The stages that DVC says it ran."""
    return {stage for stage in STAGES if f"Running stage '{stage}'" in said}


def test_a_new_project_runs_at_once_and_an_upgrade_runs_it_again(programs: Path, tmp_path: Path):
    """With scripted answers, of which each is right for one prompt of twelve, and a tiny student."""
    assert "cd demo && dvc repro" in run(programs / "datastill", "init", "demo", cwd=tmp_path, first_on_path=programs)
    demo = tmp_path / "demo"
    write_tiny_model(demo / "tiny")
    params = yaml.safe_load((demo / "params.yaml").read_text())
    assert params["datastill"] == {"version": "0.1.0"}
    written = (demo / "params.yaml").read_text().partition("\nprompts:")[0]  # with its comment
    (demo / "params.yaml").write_text(
        written + "\n" + yaml.safe_dump({k: v for k, v in (params | SCRIPTED).items() if k != "datastill"})
    )

    said = run("dvc", "repro", cwd=demo, first_on_path=programs)
    assert ran(said) == set(STAGES)
    verified = json.loads((demo / "data" / "verified" / "manifest.json").read_text())
    assert verified["rows"]["in"] == 48  # 12 prompts, 4 attempts
    assert 0 < verified["rows"]["out"] <= 8  # four at one prompt each
    assert verified["licences"]["my_prompts"]["licence"] == "cc0-1.0"
    assert not ran(run("dvc", "repro", cwd=demo, first_on_path=programs))
    assert run("git", "status", "--porcelain", "--untracked-files=all", "--", "data", "models", cwd=demo) == ""

    # Another version is installed: a stage refuses until the project says so too, then each runs again.
    (metadata,) = programs.parent.glob("lib/python3*/site-packages/datastill-*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 0.1.0", "Version: 0.2.0"))
    for stage in ("prompts", "report"):  # with a section of its own, and without
        with pytest.raises(AssertionError, match=r"of another version than 0.2.0, .*--upgrade.*got 0\.1\.0"):
            run("dvc", "repro", "--force", "--single-item", stage, cwd=demo, first_on_path=programs)
    answers = ledger_size(programs, demo)
    assert "0.1.0 is 0.2.0 now" in run(programs / "datastill", "init", "--upgrade", cwd=demo)
    assert json.loads(run("dvc", "status", "--json", cwd=demo, first_on_path=programs)).keys() == set(STAGES)
    said = run("dvc", "repro", "verify", cwd=demo, first_on_path=programs)
    assert ran(said) == {"prompts", "traces", "verify"}
    assert ledger_size(programs, demo) == answers
    assert "`datastill init --upgrade` after" in (demo / "params.yaml").read_text()


def ledger_size(programs: Path, folder: Path) -> str:
    """What `datastill ledger stats` says."""
    return run(programs / "datastill", "ledger", "stats", cwd=folder)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ParamsError, match="there is something already"):
        write_project(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_inside_a_repository_there_is_no_other_one(tmp_path: Path):
    (tmp_path / ".git").mkdir()
    write_project(tmp_path / "demo")
    assert not (tmp_path / "demo" / ".git").exists()


def test_without_git_it_is_a_dvc_project_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_project(tmp_path / "demo")
    assert "no_scm = true" in (tmp_path / "demo" / ".dvc" / "config").read_text()


@pytest.mark.parametrize(
    ("text", "now"),
    [
        ("datastill:\n  version: 0.0.9\n", "datastill:\n  version: 0.1.0\n"),
        ("a:\n  version: 3\ndatastill: # ours\n  # it\n  version: '0.0.9' # old\n",
         "a:\n  version: 3\ndatastill: # ours\n  # it\n  version: 0.1.0 # old\n"),
        ("datastill:\r\n\r\n  version: 0.0.9\r\na: 1\r\n", "datastill:\r\n\r\n  version: 0.1.0\r\na: 1\r\n"),
    ],
)  # fmt: skip
def test_an_upgrade_changes_the_version_alone(text: str, now: str, tmp_path: Path):
    (tmp_path / "params.yaml").write_bytes(text.encode())
    upgrade(tmp_path)
    assert (tmp_path / "params.yaml").read_bytes() == now.encode()
    assert "already" in upgrade(tmp_path)


@pytest.mark.parametrize("text", [None, "prompts:\n  version: 1\n"])
def test_what_is_no_such_project_is_refused(text: str | None, tmp_path: Path):
    if text:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(DataError, match=r"params\.yaml"):
        upgrade(tmp_path)


def test_no_template_is_a_pipeline_where_it_lies():
    """DVC reads every dvc.yaml and params.yaml under a repository, an environment's packages included."""
    assert not {"dvc.yaml", "params.yaml", "dvc.lock"} & {path.name for path in (ROOT / "datagen").rglob("*")}
