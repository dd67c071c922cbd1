"""Experiments, a remote and torchrun under real DVC, in projects that `datastill init` wrote.

Oracles: DVC's own tables, git's log, bytes, the process table, and one process's student.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from datagen.init.command import write_project
from tests.tiny_model import write_tiny_model

PARAMS: dict[str, Any] = {
    "prompts": {"method": "user_rows"},
    "prompts_heldout": {"method": "user_rows"},
    "traces": {"backend": "scripted", "samples_per_prompt": 2, "answers": ["Paris", "Rome", "Lima"]},
    "verify": {"method": "short_answer", "threshold": 1.0},
    "train_lm": {
        "student": "tiny",
        "max_tokens": 128,
        "batch_size": 3,
        "epochs": 2,
        "learning_rate": 1e-3,
        "n_threads": 1,
    },
    "evaluate_lm": {"method": "short_answer", "before": "tiny", "max_new_tokens": 2},
}
MOST_S = 120


def environment(**more: str) -> dict[str, str]:
    """Ours without this process's settings, and with programs of its environment first."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "DATASTILL_", "GIT_"))}
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | who | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"} | more


def run(*command: object, cwd: Path, **more: str) -> str:
    """What a command that succeeds says."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment(**more), capture_output=True, text=True,
        check=False, timeout=MOST_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def new_project(folder: Path, n_stages: int) -> Path:
    """The first stages of what `datastill init` writes, committed."""
    write_project(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump({"datastill": {"version": "0.1.0"}, **PARAMS}))
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    chosen = [name for name in stages if name != "prompts_heldout"][:n_stages]
    (folder / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {name: stages[name] for name in chosen}}, sort_keys=False)
    )
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "-m", "A project", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts, traces and verify ran, and the run is committed."""
    folder = new_project(tmp_path_factory.mktemp("experiments") / "demo", 3)
    run("dvc", "repro", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "-m", "A run", cwd=folder)
    return folder


def test_a_clone_pulls_what_was_pushed_and_has_nothing_to_do(project: Path, tmp_path: Path):
    store, clone = tmp_path / "store", tmp_path / "clone"
    run("dvc", "remote", "add", "--default", "--force", "store", store, cwd=project)
    run("git", "commit", "--quiet", "-am", "A remote", cwd=project)
    run("dvc", "push", cwd=project)
    run("git", "clone", "--quiet", project, clone, cwd=tmp_path)
    assert not (clone / "data").exists()
    run("dvc", "pull", cwd=clone)
    assert "Running stage" not in run("dvc", "repro", cwd=clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    for file in sorted((project / "data").rglob("*.*")):
        assert (clone / file.relative_to(project)).read_bytes() == file.read_bytes()
    assert (clone / "data" / "verified" / "manifest.json").exists()


def test_an_experiment_runs_what_its_parameter_changes(project: Path):
    """Another threshold judges the same answers again: no prompt and no answer is made anew."""
    before = json.loads((project / "metrics" / "verify.json").read_text())["verified_rate"]
    assert 0 < before < 1
    said = run("dvc", "exp", "run", "--name", "all-pass", "-S", "verify.threshold=0.0", cwd=project)
    assert [name for name in ("prompts", "traces", "verify") if f"Running stage '{name}'" in said] == ["verify"]
    (shown,) = [
        one for one in json.loads(run("dvc", "exp", "show", "--json", cwd=project)) if one["rev"] != "workspace"
    ]
    (experiment,) = shown["experiments"]
    assert experiment["name"] == "all-pass"
    (state,) = experiment["revs"]
    rates = [data["metrics"]["metrics/verify.json"]["data"]["verified_rate"] for data in (shown["data"], state["data"])]
    assert rates == [before, 1.0]
    params = [data["params"]["params.yaml"]["data"]["verify"]["threshold"] for data in (shown["data"], state["data"])]
    assert params == [1.0, 0.0]
    assert (
        len(run("git", "log", "--oneline", cwd=project).splitlines()) <= 3
    )  # experiments are no commits of the branch
    run("git", "checkout", "--quiet", "--", ".", cwd=project)


def test_two_processes_train_what_one_does(tmp_path: Path):
    """Under torchrun by way of DVC; the number of processes is a machine fact, so it makes no stage run again."""
    import torch
    from safetensors.torch import load_file

    folder = new_project(tmp_path / "demo", 4)
    write_tiny_model(folder / "tiny")
    workers: set[str] = set()
    with subprocess.Popen(
        ["dvc", "repro"], cwd=folder, env=environment(DATASTILL_PROCESSES="2"), stdout=subprocess.DEVNULL
    ) as dvc:
        while dvc.poll() is None:
            for process in descendants(dvc.pid):
                if "datagen.contracts.launch" in process and "torch.distributed.run" not in process:
                    workers.add(process)
            time.sleep(0.2)
    assert dvc.returncode == 0
    assert len(workers) == 2
    assert "Running stage" not in run("dvc", "repro", cwd=folder)

    run(
        "datastill",
        "train_lm",
        "--params",
        "params.yaml",
        "--data",
        "data/verified",
        "--out",
        tmp_path / "one",
        cwd=folder,
    )
    one, two = (load_file(at / "model.safetensors") for at in (tmp_path / "one", folder / "models" / "student"))
    start = load_file(folder / "tiny" / "model.safetensors")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)
    assert any(not torch.equal(one[name], weight) for name, weight in start.items())


def descendants(pid: int) -> list[str]:
    """Number and command line of each that lives."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    lines: list[str] = []
    for child in children:
        try:
            lines.append(f"{child.pid} {' '.join(child.cmdline())}")
        except psutil.Error:
            continue
    return lines
